/** A Subscription. */
export class Loop {
    /**
     * @param {string[]} topics
     * @param {number} limit bytes that may wait
     * @param {() => void} left called at the end
     */
    constructor(topics: string[], limit: number, left: () => void);
    topics: readonly string[];
    /** Aborted when the loop ends. */
    get signal(): AbortSignal;
    /**
     * @param {Envelope} envelope
     * @param {string} text what it was made of
     */
    push(envelope: Envelope, text: string): void;
    /** Ends the loop behind what is in the queue. @param {Error | null} error */
    end(error: Error | null): void;
    /** Ends the loop, and drops what is in the queue. */
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
