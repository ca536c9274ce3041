/**
 * A connection with one stream, as a transport makes it.
 * @typedef {object} Connection
 * @property {(abort: (error: CloseError) => void) => void} guard calls abort if the hub does what the transport
 *   forbids
 * @property {() => Promise<Uint8Array>} read resolves with the bytes that come next, with none at the end of the
 *   hub's half of the stream; rejects with a CloseError
 * @property {(bytes: Uint8Array) => Promise<void>} write resolves when the transport has taken the bytes
 * @property {() => Promise<void>} finish ends the spoke's half of the stream
 * @property {(timeout: number) => Promise<CloseError>} closed resolves with how the hub has closed the connection,
 *   after the end of its half, or with a timeout
 * @property {(error: CloseError) => void} close closes the connection at once; no effect if it is closed already
 * @property {() => Promise<void>} settled resolves when nothing of the transport runs any more
 */
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
/** A connection to a hub, and its state. */
export class Link {
    /**
     * @param {Connection} connection
     * @param {LinkOwner} owner
     */
    constructor(connection: Connection, owner: LinkOwner);
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
    /** Resolves when nothing of the transport runs any more. */
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
export type Envelope = import("./frames.mjs").Envelope;
/**
 * A connection with one stream, as a transport makes it.
 */
export type Connection = {
    /**
     * calls abort if the hub does what the transport
     * forbids
     */
    guard: (abort: (error: CloseError) => void) => void;
    /**
     * resolves with the bytes that come next, with none at the end of the
     * hub's half of the stream; rejects with a CloseError
     */
    read: () => Promise<Uint8Array>;
    /**
     * resolves when the transport has taken the bytes
     */
    write: (bytes: Uint8Array) => Promise<void>;
    /**
     * ends the spoke's half of the stream
     */
    finish: () => Promise<void>;
    /**
     * resolves with how the hub has closed the connection,
     * after the end of its half, or with a timeout
     */
    closed: (timeout: number) => Promise<CloseError>;
    /**
     * closes the connection at once; no effect if it is closed already
     */
    close: (error: CloseError) => void;
    /**
     * resolves when nothing of the transport runs any more
     */
    settled: () => Promise<void>;
};
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
