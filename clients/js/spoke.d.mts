/** @typedef {import('@number0/iroh').Endpoint} Endpoint */
/** @typedef {import('@number0/iroh').EndpointAddr} EndpointAddr */
/** @typedef {import('./lib/frames.mjs').Envelope} Envelope */
/** @typedef {import('./lib/frames.mjs').Publication} Publication */
/** @typedef {import('./lib/options.mjs').Cancellable} Cancellable */
/** @typedef {import('./lib/options.mjs').SpokeOptions} SpokeOptions */
/** @typedef {import('./lib/subscription.mjs').Subscription} Subscription */
/** @typedef {import('./lib/link.mjs').Request} Request */
/** Of this package. @type {string} */
export const version: string;
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
export type Endpoint = import("@number0/iroh").Endpoint;
export type EndpointAddr = import("@number0/iroh").EndpointAddr;
export type Envelope = import("./lib/frames.mjs").Envelope;
export type Publication = import("./lib/frames.mjs").Publication;
export type Cancellable = import("./lib/options.mjs").Cancellable;
export type SpokeOptions = import("./lib/options.mjs").SpokeOptions;
export type Subscription = import("./lib/subscription.mjs").Subscription;
export type Request = import("./lib/link.mjs").Request;
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
/**
 * A publish() that waits for room.
 */
export type Waiting = {
    bytes: Uint8Array;
    resolve: () => void;
    reject: (error: unknown) => void;
};
import { RefusedError } from './lib/frames.mjs';
export { CloseCode, CloseError, decode, encode, FrameError, FrameReader, isTopic, matches, patternOf, RefusedError, scan, topicOf } from "./lib/frames.mjs";
