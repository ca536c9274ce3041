/**
 * How a connection ended, from the words of the library, which has the code nowhere else.
 * @param {string} words
 * @param {unknown} [cause]
 */
export function closeError(words: string, cause?: unknown): CloseError;
/**
 * @template T
 * @param {Promise<T>} promise
 * @param {number} ms
 * @param {string} what
 */
export function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T>;
/**
 * @template T
 * @param {Promise<T>} promise
 */
export function call<T>(promise: Promise<T>): Promise<T>;
/**
 * Closes an endpoint, which can take 3 s.
 * @param {Endpoint} endpoint
 */
export function release(endpoint: Endpoint): Promise<void>;
/** Those to be closed first, at a Worker's end: a connect() would be settled long after. @type {Set<Endpoint>} */
export const unsettled: Set<Endpoint>;
/**
 * A request for topics. The answer is called where the hub's stands in the order of what it sends:
 * with null, a RefusedError, or what ended the link.
 * @typedef {object} Request
 * @property {'__subscribe' | '__unsubscribe'} type
 * @property {string[]} topics
 * @property {(error: Error | null) => void} answer
 */
/**
 * What a Link does with what comes.
 * @typedef {object} LinkOwner
 * @property {number} maxFrame
 * @property {number} handshakeTimeout
 * @property {number} writeTimeout
 * @property {(link: Link, most: number) => Uint8Array[]} take what is to be written next, once the link is up
 * @property {(link: Link, bytes: Uint8Array) => void} send writes behind what was published
 * @property {(envelope: Envelope, text: string) => void} event with the text that it is made of
 * @property {(error: RefusedError) => void} refused an event that was published
 * @property {() => Request | null} nextRequest what to ask for now
 */
/** One connection to a hub, with one stream, and all that is true of it alone. */
export class Link {
    /**
     * @param {import('@number0/iroh').Connection} connection
     * @param {import('@number0/iroh').BiStream} stream
     * @param {LinkOwner} owner
     */
    constructor(connection: import("@number0/iroh").Connection, stream: import("@number0/iroh").BiStream, owner: LinkOwner);
    /** Resolves, and never rejects, once all that came has been worked through. @type {Promise<CloseError>} */
    ended: Promise<CloseError>;
    /** Whether the hub has answered for all topics: events go both ways from then on. */
    up: boolean;
    /** What the hub was asked for, and has not refused, by name. @type {Map<string, object>} */
    asked: Map<string, object>;
    /** Names of topics that the hub is to be asked for, or no more. @type {Set<string>} */
    changed: Set<string>;
    /** Requests for topics that are not answered. */
    asking: number;
    /** Who waits for the hub to have worked through all. @type {((error: Error | null) => void)[]} */
    flushes: ((error: Error | null) => void)[];
    /** Of how many events somebody was told that they may be lost. */
    told: number;
    /** Whether the hub has ended its half of the stream, behind a whole frame. */
    whole: boolean;
    /** Resolves when the library has nothing more to settle, or at least soon. */
    settled(): Promise<void>;
    /** Says that there is something to be written. */
    write(): void;
    /** Lets events through. */
    begin(): void;
    /** Says that there may be something to ask for. */
    ask(): void;
    /**
     * Has somebody called when the hub has worked through all that was written before: with null, a
     * RefusedError, or what ended the link.
     * @param {(error: Error | null) => void} flushed
     */
    flush(flushed: (error: Error | null) => void): void;
    /** Ends the stream when all is written, and waits until the hub has worked through it. */
    finish(): Promise<void>;
    /** Closes the connection at once. @param {CloseError} error */
    abort(error: CloseError): void;
    #private;
}
export type Endpoint = import("@number0/iroh").Endpoint;
export type Envelope = import("./frames.mjs").Envelope;
/**
 * A request for topics. The answer is called where the hub's stands in the order of what it sends:
 * with null, a RefusedError, or what ended the link.
 */
export type Request = {
    type: "__subscribe" | "__unsubscribe";
    topics: string[];
    answer: (error: Error | null) => void;
};
/**
 * What a Link does with what comes.
 */
export type LinkOwner = {
    maxFrame: number;
    handshakeTimeout: number;
    writeTimeout: number;
    /**
     * what is to be written next, once the link is up
     */
    take: (link: Link, most: number) => Uint8Array[];
    /**
     * writes behind what was published
     */
    send: (link: Link, bytes: Uint8Array) => void;
    /**
     * with the text that it is made of
     */
    event: (envelope: Envelope, text: string) => void;
    /**
     * an event that was published
     */
    refused: (error: RefusedError) => void;
    /**
     * what to ask for now
     */
    nextRequest: () => Request | null;
};
import { CloseError } from './frames.mjs';
import { RefusedError } from './frames.mjs';
