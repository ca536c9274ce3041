/** The topic of an event. @param {Publication} event */
export function topicOf({ type, id }: Publication): string;
/** Whether an event may have this topic, and a spoke subscribe to it. @param {string} topic */
export function isTopic(topic: string): boolean;
/**
 * The pattern to which a topic belongs: `T:*`, where T is what stands before the first colon.
 * @param {string} topic
 */
export function patternOf(topic: string): string;
/**
 * Whether an event of a topic goes to a subscription.
 * @param {string} subscription
 * @param {string} topic
 */
export function matches(subscription: string, topic: string): boolean;
/**
 * The names of an object's members as they come, and how deep it is nested. JSON.parse tells neither.
 * @param {string} text valid JSON
 */
export function scan(text: string): {
    names: string[];
    depth: number;
};
/**
 * Reads what a frame holds. Throws a FrameError.
 * @param {Uint8Array} body
 * @returns {Envelope}
 */
export function decode(body: Uint8Array): Envelope;
/**
 * Makes the frame of an event to publish. Throws a TypeError for one that is not allowed.
 * @param {Publication} event
 * @param {number} [maxFrame]
 */
export function encode(event: Publication, maxFrame?: number): Uint8Array<ArrayBuffer>;
/** Of this package. @type {string} */
export const version: string;
/** The codes with which a connection is closed. */
export const CloseCode: Readonly<{
    normal: 0;
    shutdown: 1;
    protocol: 2;
    notAdmitted: 3;
    tooSlow: 4;
    tooMany: 5;
    timeout: 6;
}>;
/** Why a connection ended. Its name goes with the code: NotAdmitted, TooSlow, ConnectionLost … */
export class CloseError extends Error {
    /**
     * @param {number | null} code one of CloseCode, or one of a later version; null: lost without one
     * @param {string} reason for people
     * @param {unknown} [cause]
     */
    constructor(code: number | null, reason: string, cause?: unknown);
    code: number | null;
    reason: string;
}
/** The hub refused a topic, or an event that was published. */
export class RefusedError extends Error {
    /** @param {any} payload that of `__error` */
    constructor(payload: any);
    /** forbidden, invalid_topic, too_many_subscriptions, invalid_payload, or one of a later version */
    code: string;
    topic: string;
}
/** Bytes that are no frame of the protocol. */
export class FrameError extends Error {
    /**
     * @param {'length'|'truncated'|'utf8'|'json'|'depth'|'not_object'|'type'|'id'|'from'|'repeated'|'surrogate'} flaw
     * @param {string} message
     */
    constructor(flaw: "length" | "truncated" | "utf8" | "json" | "depth" | "not_object" | "type" | "id" | "from" | "repeated" | "surrogate", message: string);
    flaw: "length" | "type" | "depth" | "id" | "from" | "json" | "truncated" | "utf8" | "not_object" | "repeated" | "surrogate";
}
/** Cuts a stream of bytes into frames. */
export class FrameReader {
    constructor(maxFrame?: number);
    /** Yields what the frames hold that end in a chunk. Throws a FrameError. @param {Uint8Array} chunk */
    push(chunk: Uint8Array): Generator<Uint8Array<ArrayBufferLike>, void, unknown>;
    /** Throws a FrameError if the stream ends here inside a frame. */
    end(): void;
    #private;
}
/** A publish() that waits for room. @typedef {{bytes: Uint8Array, resolve: () => void, reject: (error: unknown) => void}} Waiting */
/**
 * A connection to a hub that comes back by itself. As an event target:
 *
 * - `addEventListener(topic, listener)` gets what the hub passes on, with the topic as the event's type
 *   and the envelope as its detail. A topic's first listener subscribes, the last one to go unsubscribes.
 * - Under a pattern `T:*`, the event's type is the pattern, as an event target calls a listener for the
 *   type that it was added for and no other; `topicOf(event.detail)` is the topic. An event that
 *   has listeners under its topic and under the pattern comes once from the hub and once to each.
 * - `dispatchEvent(event)` publishes to the hub, which never sends an event back to where it came
 *   from: listeners of this spoke are not called.
 * - `__state`, `__disconnect`, `__reconnect` and `__error` are no topics but about the connection: how the
 *   spoke stands has changed; it was lost; it is back, and the hub has answered for every topic; the
 *   hub refused a topic or what was published.
 *
 * Delivery is at most once, in the order published, with no gap between `__reconnect` and
 * `__disconnect`. A spoke that is not closed keeps the process alive.
 */
export class Spoke extends EventTarget {
    /**
     * Connects to the hub at peer, a ticket or NODEID@HOST:PORT, and resolves once the hub has taken
     * the spoke in. Rejects with a CloseError if it has not, or has not answered in time; with a TypeError for
     * what is no peer or no option; and with what the signal was aborted with.
     * @param {string} peer
     * @param {SpokeOptions} [options]
     */
    static connect(peer: string, options?: SpokeOptions): Promise<Spoke>;
    /**
     * For connect() alone.
     * @private
     * @param {Endpoint} endpoint
     * @param {EndpointAddr} address
     * @param {SpokeOptions} options
     */
    private constructor();
    /** The NodeID of this spoke. */
    node: string;
    /** The NodeID of the hub. */
    hub: string;
    /** Resolves at the spoke's end: with null after close(), else with what ended it, or close() rejects with. */
    closed: Promise<Error | null>;
    /** How the spoke stands. `__state` tells of each change. */
    get state(): State;
    /**
     * @template {string} T
     * @param {T} type a topic, a pattern, `__state`, `__disconnect`, `__reconnect` or `__error`
     * @param {Listener<T> | null} listener
     * @param {ListenerOptions | boolean} [options]
     */
    addEventListener<T extends string>(type: T, listener: Listener<T> | null, options?: ListenerOptions | boolean): void;
    /**
     * @template {string} T
     * @param {T} type
     * @param {Listener<T> | null} listener
     * @param {{capture?: boolean} | boolean} [options]
     */
    removeEventListener<T extends string>(type: T, listener: Listener<T> | null, options?: {
        capture?: boolean;
    } | boolean): void;
    /**
     * Publishes the event's detail, an envelope whose topic is the event's type. It returns at once, as
     * publish() does while there is room. Throws a TypeError for one that is not allowed, what ended
     * the spoke, and an error where over maxOutbox waits to be written: publish() waits instead.
     * @param {Detailed<Publication>} event
     */
    dispatchEvent({ type, detail }: Detailed<Publication>): boolean;
    /**
     * Publishes an event, and resolves when it is queued for writing; flush() tells whether the hub has
     * it. It waits while over 256 KiB are queued, and so while the connection is lost. Rejects with a
     * TypeError for an event that is not allowed, what ended the spoke, or what the signal was aborted
     * with: then nothing is published.
     * @param {Publication} event
     * @param {Cancellable} [options]
     * @returns {Promise<void>}
     */
    publish(event: Publication, options?: Cancellable): Promise<void>;
    /**
     * Waits until the hub has worked through all that was published before, and while the connection is
     * lost. Rejects with the first thing that went wrong with an event since the last flush(): the hub's
     * refusal, or a CloseError for a lost connection, as it is not known then what the hub got; with
     * what ended the spoke; or with what the signal was aborted with.
     * @param {Cancellable} [options]
     * @returns {Promise<void>}
     */
    flush(options?: Cancellable): Promise<void>;
    /**
     * Resolves when the hub has acknowledged a topic that is listened to: what it passes on from then on
     * comes. While the connection is lost, it waits. Rejects with the hub's refusal.
     * @param {string} topic
     * @param {Cancellable} [options]
     * @returns {Promise<void>}
     */
    subscribed(topic: string, options?: Cancellable): Promise<void>;
    /** As subscribed(), for every topic that is listened to now. @param {Cancellable} [options] */
    ready(options?: Cancellable): Promise<void>;
    /**
     * Subscribes to topics, and resolves when the hub has acknowledged all of them: what it passes on from
     * then on comes. While the connection is lost, it waits. Rejects with the hub's refusal, what ended the
     * spoke, or what the signal was aborted with: then nothing stays subscribed. Later, the signal has no
     * effect.
     * @param {[...topics: string[], options: Cancellable] | string[]} topics
     * @returns {Promise<Subscription>}
     */
    subscribe(...topics: [...topics: string[], options: Cancellable] | string[]): Promise<Subscription>;
    /**
     * As subscribe(), at once: for a loop that need not know when the hub has acknowledged. The hub's
     * refusal comes in the loop. A signal ends the loop, which throws what it was aborted with.
     * @param {[...topics: string[], options: Cancellable] | string[]} topics
     * @returns {Subscription}
     */
    events(...topics: [...topics: string[], options: Cancellable] | string[]): Subscription;
    /**
     * Ends the spoke: writes what was published, and waits until the hub has worked through it and
     * sent what it had. Rejects if that failed; if there is no connection, and events are waiting to
     * be written; if a connection was lost before with what may have been on its way, and no flush()
     * has told; or with what had ended the spoke. Later calls return what the first did, and `closed`
     * resolves with what it rejects with.
     */
    close(): Promise<void>;
    #private;
}
/**
 * An event as it came from the hub.
 */
export type Envelope = {
    type: string;
    /**
     * `''` where the event has none
     */
    id: string;
    /**
     * `undefined` where the event has none. It is JSON.parse's, so a number
     * that a double cannot hold is rounded, one that is too large for it (1e400) is Infinity, and the last
     * of a repeated member counts.
     */
    payload: unknown;
    /**
     * the NodeID of the spoke that published it, which the hub vouches for;
     * without it, the event is the hub's own
     */
    from?: string | undefined;
};
/**
 * An event to publish. The topic is `type`, or `type:id` where there is an `id`; `payload` is what
 * JSON.stringify takes, but NaN and Infinity are refused: JSON.stringify would make null of them.
 */
export type Publication = {
    type: string;
    id?: string;
    payload?: unknown;
};
/**
 * The detail of `__disconnect`: why the connection ended, and whether the spoke comes back.
 */
export type Disconnect = {
    error: Error;
    reconnecting: boolean;
};
/**
 * The detail of `__reconnect`: how many attempts it took.
 */
export type Reconnect = {
    attempts: number;
};
/**
 * How a spoke stands. `reconnecting` is from the loss of a connection until the hub has answered for
 * all topics over another; `closed` is the end for good.
 */
export type State = {
    name: "connected" | "reconnecting" | "closed";
    /**
     * of reconnecting: 1 for the first; else 0
     */
    attempt: number;
    /**
     * reconnecting: why the connection was lost, or the attempt before this
     * one failed; closed: what ended the spoke, null after close()
     */
    error: Error | null;
};
/**
 * The events of some topics, for one `for await`. It has a queue of its own, and goes on over lost
 * connections. The loop returns after Spoke.close(), behind what had come. It throws what else ended
 * it, behind what had come: what ended the spoke, the hub's refusal of a topic, what a signal was
 * aborted with, or a CloseError named TooSlow where over maxQueue was waiting: the spoke and its
 * other subscriptions go on then. `break` closes it.
 */
export type Subscription = AsyncIterableIterator<Envelope> & {
    readonly topics: readonly string[];
    close(): void;
};
export type Cancellable = {
    signal?: AbortSignal | undefined;
};
/**
 * A CustomEvent, which not every project has a declaration of.
 */
export type Detailed<T> = Event & {
    readonly detail: T;
} & (typeof globalThis extends {
    CustomEvent: {
        prototype: infer E;
    };
} ? Omit<E, "detail"> : {});
/**
 * What a listener gets: for the four names that are no topics an event about the connection, for
 * a topic an envelope.
 */
export type SpokeEvent<T extends string> = T extends "__disconnect" ? Detailed<Disconnect> : T extends "__reconnect" ? Detailed<Reconnect> : T extends "__error" ? Detailed<RefusedError> : T extends "__state" ? Detailed<State> : Detailed<Envelope>;
export type Listener<T extends string> = ((event: SpokeEvent<T>) => void) | {
    handleEvent(event: SpokeEvent<T>): void;
};
/**
 * As for any event target.
 */
export type ListenerOptions = {
    capture?: boolean;
    once?: boolean;
    passive?: boolean;
    signal?: AbortSignal;
};
export type SpokeOptions = {
    /**
     * gives connect() up; later it has no effect
     */
    signal?: AbortSignal | undefined;
    /**
     * 32 bytes, or 64 hex digits as `irohub id` keeps them;
     * none: a new key, and so a new NodeID
     */
    secretKey?: string | Uint8Array<ArrayBufferLike> | undefined;
    /**
     * one of your own, which close() leaves open; `secretKey`, `bindAddr`
     * and `relays` are then its matter
     */
    endpoint?: Endpoint | undefined;
    /**
     * HOST:PORT, by numbers; none: any port of every address
     */
    bindAddr?: string | undefined;
    /**
     * relay servers and discovery: none, or those of iroh's authors;
     * 'none' unless given
     */
    relays?: "none" | "n0" | undefined;
    /**
     * 'alkpubsub/1' unless given
     */
    alpn?: string | undefined;
    /**
     * whether a lost connection is made anew; true unless given
     */
    reconnect?: boolean | undefined;
    /**
     * ms before the first attempt to reconnect, doubled for each
     * further one, and shortened by chance by up to a half; 250 unless given
     */
    minBackoff?: number | undefined;
    /**
     * ms, over which it does not grow; 30,000 unless given
     */
    maxBackoff?: number | undefined;
    /**
     * ms for each attempt to connect, then without an answer while the
     * hub is asked for all topics; 10,000 unless given
     */
    handshakeTimeout?: number | undefined;
    /**
     * ms without progress in writing, and for the hub's part in close();
     * 10,000 unless given
     */
    writeTimeout?: number | undefined;
    /**
     * bytes of one event; larger than the hub's is of no use; 1 MiB unless
     * given, and at least 4,096
     */
    maxFrame?: number | undefined;
    /**
     * bytes of memory waiting for one subscription; over it, that ends as too slow;
     * 1 MiB unless given. An event counts for its text, and 96 bytes
     */
    maxQueue?: number | undefined;
    /**
     * bytes that dispatchEvent() may be ahead of the network before it
     * throws; 16 MiB unless given
     */
    maxOutbox?: number | undefined;
};
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
/**
 * A publish() that waits for room.
 */
export type Waiting = {
    bytes: Uint8Array;
    resolve: () => void;
    reject: (error: unknown) => void;
};
import { Endpoint } from '@number0/iroh';
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
declare class Link {
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
    /** What the hub was asked for, and has not refused, by name. @type {Map<string, Topic>} */
    asked: Map<string, Topic>;
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
/** What a spoke keeps of a topic that is listened to. */
declare class Topic {
    /** @type {{listener: unknown, capture: boolean, handler: any, forget: () => void}[]} */
    entries: {
        listener: unknown;
        capture: boolean;
        handler: any;
        forget: () => void;
    }[];
    /** Whether the hub has acknowledged it on this connection. Before, an event may have a gap behind it. */
    acknowledged: boolean;
    answered: boolean;
    /** Whether to ask for it alone: a hub refused it and others, without a name. */
    isAlone: boolean;
    /** @type {(error: Error | null) => void} */
    answer: (error: Error | null) => void;
    /** Resolves with the hub's answer. @type {Promise<void>} */
    promise: Promise<void>;
    /** Awaits another answer. */
    renew(): Promise<any>;
}
export {};
