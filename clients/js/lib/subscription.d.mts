/** The implementation of Subscription. */
export class Loop {
    /**
     * @param {string[]} topics
     * @param {number} limit the most queued bytes
     * @param {() => void} left called at the end
     */
    constructor(topics: string[], limit: number, left: () => void);
    topics: readonly string[];
    /** Aborted when the loop ends. */
    get signal(): AbortSignal;
    /**
     * @param {Envelope} envelope
     * @param {string} text the text that it was decoded from
     */
    push(envelope: Envelope, text: string): void;
    /** Ends the loop once the queue is empty. @param {Error | null} error */
    end(error: Error | null): void;
    /** Ends the loop and discards the queue. */
    close(): void;
    /** @returns {Promise<IteratorResult<Envelope>>} */
    next(): Promise<IteratorResult<Envelope>>;
    /** @returns {Promise<IteratorResult<Envelope>>} */
    return(): Promise<IteratorResult<Envelope>>;
    [Symbol.asyncIterator](): this;
    #private;
}
export type Envelope = import("./frames.mjs").Envelope;
/**
 * The events of some topics, for one `for await` loop. Each subscription has its own queue and continues across
 * reconnections. After Spoke.close(), the loop returns once the queue is empty. Any other end throws an error
 * once the queue is empty: the error that ended the spoke, the hub's refusal of a topic, the reason of an
 * aborted signal, or a CloseError named TooSlow if more than maxQueue was queued. After a refusal or TooSlow,
 * the spoke and its other subscriptions continue. `break` closes the subscription.
 */
export type Subscription = AsyncIterableIterator<Envelope> & {
    readonly topics: readonly string[];
    close(): void;
};
