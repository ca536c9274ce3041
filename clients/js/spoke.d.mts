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
 * The names of an object's members as they come, how deep it is nested, and how many values it has
 * at most. JSON.parse tells none of it.
 * @param {string} text valid JSON
 */
export function scan(text: string): {
    names: string[];
    depth: number;
    values: number;
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
     * @param {'length'|'truncated'|'utf8'|'json'|'depth'|'not_object'|'type'|'id'|'repeated'|'surrogate'} flaw
     * @param {string} message
     */
    constructor(flaw: "length" | "truncated" | "utf8" | "json" | "depth" | "not_object" | "type" | "id" | "repeated" | "surrogate", message: string);
    flaw: "length" | "type" | "depth" | "id" | "json" | "truncated" | "utf8" | "not_object" | "repeated" | "surrogate";
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
 * - `__disconnect`, `__reconnect` and `__error` are no topics but about the connection: it was lost; it is
 *   back, and the hub has answered for every topic; the hub refused a topic or what was published.
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
    /**
     * @template {string} T
     * @param {T} type a topic, a pattern, `__disconnect`, `__reconnect` or `__error`
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
     * Publishes the event's detail, an envelope whose topic is the event's type. It returns at once; a
     * connection that is lost before the envelope is written loses it. Throws a TypeError for one that
     * is not allowed, and an error where there is no connection or over maxQueue waits for it:
     * publish() waits instead.
     * @param {Detailed<Publication>} event
     */
    dispatchEvent({ type, detail }: Detailed<Publication>): boolean;
    /**
     * Publishes an event, and resolves when the network has taken it; flush() tells whether the hub has.
     * Rejects with a TypeError for one that is not allowed, and with an error where there is no
     * connection or it is lost before.
     * @param {Publication} event
     */
    publish(event: Publication): Promise<void>;
    /**
     * Waits until the hub has worked through all that was published before. Rejects with the first
     * refusal since the last flush(), if there was one, and with a CloseError if the connection is lost:
     * then it is not known what the hub got.
     * @returns {Promise<void>}
     */
    flush(): Promise<void>;
    /**
     * Resolves when the hub has acknowledged a topic that is listened to: what it passes on from then on
     * comes. While the connection is lost, it waits. Rejects with the hub's refusal.
     * @param {string} topic
     * @returns {Promise<void>}
     */
    subscribed(topic: string): Promise<void>;
    /** As subscribed(), for every topic that is listened to now. */
    ready(): Promise<void>;
    /**
     * Subscribes to topics, at once, and returns the events as an async iterator. It goes on over lost
     * connections. It returns after close(), and throws what else ends the spoke, or the hub's refusal
     * of a topic. `break` unsubscribes.
     *
     * A loop that is behind by more than readAhead keeps the spoke from reading further, and all of
     * its listeners from getting more: the hub then disconnects it, as too slow, rather than skip
     * events. So read every loop that you open, or break it off.
     * @param {...string} topics
     * @returns {AsyncIterableIterator<Envelope>}
     */
    events(...topics: string[]): AsyncIterableIterator<Envelope>;
    /**
     * Ends the spoke: writes what was published, and waits until the hub has worked through it and
     * sent what it had. Rejects if the hub has not said so: then it is not known what it got. Where the
     * connection is lost there is nothing to wait for. Later calls return what the first did, and `closed`
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
 * What a listener gets: for the three names that are no topics an event about the connection, for
 * a topic an envelope.
 */
export type SpokeEvent<T extends string> = T extends "__disconnect" ? Detailed<Disconnect> : T extends "__reconnect" ? Detailed<Reconnect> : T extends "__error" ? Detailed<RefusedError> : Detailed<Envelope>;
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
    minPause?: number | undefined;
    /**
     * ms, over which it does not grow; 30,000 unless given
     */
    maxPause?: number | undefined;
    /**
     * ms for a connection to be there, then without anything moving while an
     * answer, a write or the hub's part in close() is awaited; 10,000 unless given
     */
    timeout?: number | undefined;
    /**
     * bytes of one event; larger than the hub's is of no use; 1 MiB unless
     * given
     */
    maxFrame?: number | undefined;
    /**
     * bytes that dispatchEvent() may be ahead of the network before it
     * throws; 16 MiB unless given
     */
    maxQueue?: number | undefined;
    /**
     * bytes that the events that loops over events() have not taken may hold
     * before the spoke reads no further; 1 MiB unless given. It is memory: an event counts for its text,
     * 64 bytes for each value in it, and 256.
     */
    readAhead?: number | undefined;
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
    timeout: number;
    /**
     * whether to read on, with room for so many bytes more
     */
    hasRoom: (further: number) => boolean;
    event: (envelope: Envelope, size: number) => void;
    /**
     * an event that was published
     */
    refused: (error: RefusedError) => void;
    /**
     * what to ask for now
     */
    nextRequest: () => Request | null;
};
import { Endpoint } from '@number0/iroh';
