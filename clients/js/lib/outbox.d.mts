/** A publish() that waits for room. @typedef {{bytes: Uint8Array, resolve: () => void, reject: (error: unknown) => void}} Waiting */
/** The frames to write, over this link or the next one, and an account of the published events. */
export class Outbox {
    /** @param {() => void} wake called when there is a frame to write */
    constructor(wake: () => void);
    /** The number of published events. */
    published: number;
    /** Bytes to write. */
    unsent: number;
    /** The first lost connection since the last flush(). @type {Error | null} */
    loss: Error | null;
    /** The number of published events that were not passed to a link. */
    get unwritten(): number;
    /** Whether publish() waits. */
    get isFull(): boolean;
    /** Whether bytes would exceed a limit, or overtake a publish() that waits. @param {number} size @param {number} most */
    exceeds(size: number, most: number): boolean;
    /** Queues an event. @param {Uint8Array} bytes */
    publish(bytes: Uint8Array): void;
    /**
     * Queues an event once there is room.
     * @param {Uint8Array} bytes
     * @param {AbortSignal} [signal]
     */
    publishLater(bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
    /**
     * Queues a request for one link, or an event.
     * @param {Link | null} link
     * @param {Uint8Array} bytes
     */
    send(link: Link | null, bytes: Uint8Array): void;
    /**
     * Takes the next frames for a link to write.
     * @param {Link} link
     * @param {number} most
     */
    take(link: Link, most: number): Uint8Array<ArrayBufferLike>[];
    /** Records that the hub has taken events. @param {number} published how many, of all that were published */
    taken(published?: number): void;
    /** Records that the hub refused an event. @param {Error} error */
    refused(error: Error): void;
    /**
     * Records that events may be lost with a link.
     * @param {Link} link
     * @param {Error} error
     */
    lost(link: Link, error: Error): void;
    /** Returns and forgets the first problem with an event. */
    settle(): Error | null;
    /** Discards what is queued. @param {Error} why what each publish() that waits rejects with */
    end(why: Error): void;
    #private;
}
export type Link = import("./link.mjs").Link;
/**
 * A publish() that waits for room.
 */
export type Waiting = {
    bytes: Uint8Array;
    resolve: () => void;
    reject: (error: unknown) => void;
};
