/**
 * Parses the library's text about how a connection ended. The library gives the code nowhere else.
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
 * Closes an endpoint. This can take 3 s.
 * @param {Endpoint} endpoint
 */
export function release(endpoint: Endpoint): Promise<void>;
/** Endpoints to close when a Worker ends; otherwise a connect() would be settled long after. @type {Set<Endpoint>} */
export const unsettled: Set<Endpoint>;
/**
 * A request for topics. `answer` is called in order with the events that the hub sends: with null, a
 * RefusedError, or the error that ended the link.
 * @typedef {object} Request
 * @property {'__subscribe' | '__unsubscribe'} type
 * @property {string[]} topics
 * @property {(error: Error | null) => void} answer
 */
/**
 * The callbacks and limits of a Link.
 * @typedef {object} LinkOwner
 * @property {number} maxFrame
 * @property {number} handshakeTimeout
 * @property {number} writeTimeout
 * @property {(link: Link, most: number) => Uint8Array[]} take returns the next frames to write, once the link
 *   is up
 * @property {(link: Link, bytes: Uint8Array) => void} send queues a frame after the published events
 * @property {(envelope: Envelope, text: string) => void} event receives an event and its text
 * @property {(error: RefusedError) => void} refused learns that a published event was refused
 * @property {() => Request | null} nextRequest returns the next request
 */
/** One connection to a hub, with one stream, and its state. */
export class Link {
    /**
     * @param {import('@number0/iroh').Connection} connection
     * @param {import('@number0/iroh').BiStream} stream
     * @param {LinkOwner} owner
     */
    constructor(connection: import("@number0/iroh").Connection, stream: import("@number0/iroh").BiStream, owner: LinkOwner);
    /** Resolves once everything received has been processed; never rejects. @type {Promise<CloseError>} */
    ended: Promise<CloseError>;
    /** Whether the hub has answered for all topics. From then on, events are sent and received. */
    up: boolean;
    /** The topics requested from the hub and not refused, by name. @type {Map<string, object>} */
    asked: Map<string, object>;
    /** Names of topics to subscribe to or to unsubscribe from. @type {Set<string>} */
    changed: Set<string>;
    /** The number of unanswered requests for topics. */
    asking: number;
    /** Callbacks of flush() that wait for the next empty request. @type {((error: Error | null) => void)[]} */
    flushes: ((error: Error | null) => void)[];
    /** Up to this event number, a caller has learned that events may be lost. */
    told: number;
    /** Whether the hub ended its half of the stream after a complete frame. */
    whole: boolean;
    /** Resolves when the library has settled all calls, or after 1 s. */
    settled(): Promise<void>;
    /** Starts writing, if it is not running. */
    write(): void;
    /** Marks the link as up: from here on, events are sent and received. */
    begin(): void;
    /** Schedules the next requests. */
    ask(): void;
    /**
     * Calls flushed when the hub has processed everything written before: with null, a RefusedError, or the error
     * that ended the link.
     * @param {(error: Error | null) => void} flushed
     */
    flush(flushed: (error: Error | null) => void): void;
    /** Ends the stream once everything is written, and waits until the hub has processed it. */
    finish(): Promise<void>;
    /** Closes the connection at once. @param {CloseError} error */
    abort(error: CloseError): void;
    #private;
}
export type Endpoint = import("@number0/iroh").Endpoint;
export type Envelope = import("./frames.mjs").Envelope;
/**
 * A request for topics. `answer` is called in order with the events that the hub sends: with null, a
 * RefusedError, or the error that ended the link.
 */
export type Request = {
    type: "__subscribe" | "__unsubscribe";
    topics: string[];
    answer: (error: Error | null) => void;
};
/**
 * The callbacks and limits of a Link.
 */
export type LinkOwner = {
    maxFrame: number;
    handshakeTimeout: number;
    writeTimeout: number;
    /**
     * returns the next frames to write, once the link
     * is up
     */
    take: (link: Link, most: number) => Uint8Array[];
    /**
     * queues a frame after the published events
     */
    send: (link: Link, bytes: Uint8Array) => void;
    /**
     * receives an event and its text
     */
    event: (envelope: Envelope, text: string) => void;
    /**
     * learns that a published event was refused
     */
    refused: (error: RefusedError) => void;
    /**
     * returns the next request
     */
    nextRequest: () => Request | null;
};
import { CloseError } from './frames.mjs';
import { RefusedError } from './frames.mjs';
