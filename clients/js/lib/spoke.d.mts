/**
 * A connection to a hub that reconnects by itself. It is an event target:
 *
 * - `addEventListener(topic, listener)` subscribes. The listener receives the events that the hub forwards,
 *   with the topic as the event's type and the envelope as its detail. A topic's first listener subscribes to
 *   it; removing the last one unsubscribes.
 * - For a pattern `T:*`, the event's type is the pattern, because an event target calls listeners by the type
 *   that they were added for. `topicOf(event.detail)` is the topic. If an event has listeners for both its
 *   topic and the pattern, the hub sends it once, and each listener receives it once.
 * - `dispatchEvent(event)` publishes to the hub. The hub never sends an event back to its publisher, so
 *   listeners of this spoke are not called.
 * - `__state`, `__disconnect`, `__reconnect` and `__error` are not topics. They report that the state has
 *   changed; that the connection was lost; that the spoke is connected again and the hub has answered for every
 *   topic; and that the hub refused a topic or a published event.
 *
 * Delivery is at most once, in the order published, and without gaps between `__reconnect` and `__disconnect`.
 * An open spoke keeps the process alive.
 */
export class BaseSpoke extends EventTarget {
    /**
     * For connect() only.
     * @protected
     * @param {Transport} transport
     * @param {SpokeOptions} options
     */
    protected constructor();
    /** The NodeID of this spoke. */
    node: string;
    /** The NodeID of the hub. */
    hub: string;
    /** Resolves when the spoke ends: with null after close(), otherwise with the error that ended it or that close() rejects with. */
    closed: Promise<Error | null>;
    /**
     * Connects. For connect() only.
     * @protected
     * @param {AbortSignal} [signal]
     */
    protected start(signal?: AbortSignal): Promise<void>;
    /** The state of the spoke. `__state` reports each change. */
    get state(): import("./session.mjs").State;
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
     * Publishes the event's detail, an envelope whose topic is the event's type. It returns at once. Throws a
     * TypeError for an invalid event, the error that ended the spoke, or an error if the queue would exceed
     * maxOutbox. publish() waits instead.
     * @param {Detailed<Publication>} event
     */
    dispatchEvent({ type, detail }: Detailed<Publication>): boolean;
    /**
     * Publishes an event. Resolves when the event is queued; flush() reports whether the hub has processed it. It
     * waits while more than 256 KiB are queued, for example while the spoke is disconnected. Rejects with a
     * TypeError for an invalid event, with the error that ended the spoke, or with the signal's reason; nothing
     * is published then.
     * @param {Publication} event
     * @param {Cancellable} [options]
     * @returns {Promise<void>}
     */
    publish(event: Publication, options?: Cancellable): Promise<void>;
    /**
     * Waits until the hub has processed every event published before. It also waits while the spoke is
     * disconnected. Rejects with the first problem with an event since the last flush(): the hub's refusal, or a
     * CloseError for a lost connection, after which events may be lost. Also rejects with the error that ended
     * the spoke, or with the signal's reason.
     * @param {Cancellable} [options]
     * @returns {Promise<void>}
     */
    flush(options?: Cancellable): Promise<void>;
    /**
     * Resolves when the hub has acknowledged a topic that has a listener. From then on, every event that the
     * hub forwards arrives. It waits while the spoke is disconnected. Rejects with the hub's refusal.
     * @param {string} topic
     * @param {Cancellable} [options]
     * @returns {Promise<void>}
     */
    subscribed(topic: string, options?: Cancellable): Promise<void>;
    /** The same as subscribed(), for every topic that has a listener now. @param {Cancellable} [options] */
    ready(options?: Cancellable): Promise<void>;
    /**
     * Subscribes to topics. Resolves when the hub has acknowledged all of them. From then on, every event that
     * the hub forwards arrives. It waits while the spoke is disconnected. Rejects with the hub's refusal, the error
     * that ended the spoke, or the signal's reason; it leaves no subscription then. Once it has resolved, the
     * signal has no effect.
     * @param {[...topics: string[], options: Cancellable] | string[]} topics
     * @returns {Promise<Subscription>}
     */
    subscribe(...topics: [...topics: string[], options: Cancellable] | string[]): Promise<Subscription>;
    /**
     * Like subscribe(), but returns at once, without waiting for the hub's acknowledgement. The loop throws the
     * hub's refusal. An aborted signal ends the loop, which throws the signal's reason.
     * @param {[...topics: string[], options: Cancellable] | string[]} topics
     * @returns {Subscription}
     */
    events(...topics: [...topics: string[], options: Cancellable] | string[]): Subscription;
    /**
     * Closes the spoke. It writes the queued events and waits until the hub has processed all of them. Events
     * that arrive until then are delivered. It rejects in these cases: closing failed; events were queued while
     * there was no connection; an earlier connection was lost with events that may not have arrived, and no
     * flush() has reported it; or another error had ended the spoke. Later calls return the same promise.
     * `closed` resolves with the error that close() rejects with.
     */
    close(): Promise<void>;
    #private;
}
export type Envelope = import("./frames.mjs").Envelope;
export type Publication = import("./frames.mjs").Publication;
export type RefusedError = import("./frames.mjs").RefusedError;
export type Cancellable = import("./options.mjs").Cancellable;
export type SpokeOptions = import("./options.mjs").SpokeOptions;
export type State = import("./session.mjs").State;
export type Transport = import("./session.mjs").Transport;
export type Subscription = import("./subscription.mjs").Subscription;
/**
 * The detail of `__disconnect`: why the connection ended, and whether the spoke reconnects.
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
 * A CustomEvent. Not every project has a declaration of that type.
 */
export type Detailed<T> = Event & {
    readonly detail: T;
} & (typeof globalThis extends {
    CustomEvent: {
        prototype: infer E;
    };
} ? Omit<E, "detail"> : {});
/**
 * What a listener receives: for a topic, an envelope; for the four names that are not topics, an event about
 * the connection.
 */
export type SpokeEvent<T extends string> = T extends "__disconnect" ? Detailed<Disconnect> : T extends "__reconnect" ? Detailed<Reconnect> : T extends "__error" ? Detailed<RefusedError> : T extends "__state" ? Detailed<State> : Detailed<Envelope>;
export type Listener<T extends string> = ((event: SpokeEvent<T>) => void) | {
    handleEvent(event: SpokeEvent<T>): void;
};
/**
 * The same as for any event target.
 */
export type ListenerOptions = {
    capture?: boolean;
    once?: boolean;
    passive?: boolean;
    signal?: AbortSignal;
};
