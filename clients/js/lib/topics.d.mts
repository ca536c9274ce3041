/** The state of a topic that has listeners. */
export class Topic {
    /** @type {{listener: unknown, capture: boolean, handler: any, forget: () => void}[]} */
    entries: {
        listener: unknown;
        capture: boolean;
        handler: any;
        forget: () => void;
    }[];
    /** Whether the hub has acknowledged it on this connection. Before that, there may be gaps between events. */
    acknowledged: boolean;
    answered: boolean;
    /** Whether to request it alone: the hub refused a request with several topics without naming one. */
    isAlone: boolean;
    /** @type {(error: Error | null) => void} */
    answer: (error: Error | null) => void;
    /** Settles with the hub's answer. @type {Promise<void>} */
    promise: Promise<void>;
    /** Prepares for another answer. */
    renew(): Promise<any>;
}
/** The topics that have listeners, by name. */
export class Topics {
    /** @param {(name: string, error: RefusedError) => void} refused called when the hub refuses a topic */
    constructor(refused: (name: string, error: RefusedError) => void);
    /** @param {string} name */
    get(name: string): Topic | undefined;
    /** The answers for all topics. */
    get answers(): Promise<void>[];
    /** Adds a topic, and subscribes to it. @param {string} name */
    add(name: string): Topic;
    /** Removes a topic, and unsubscribes from it. @param {string} name */
    remove(name: string): void;
    /** Requests all topics over a new link. @param {Link} link */
    begin(link: Link): void;
    /** Ends the requests over a link. Every topic waits for another answer. */
    lose(): void;
    /** Answers for every topic at the end of the spoke. @param {Error} why */
    end(why: Error): void;
    /**
     * Returns the next request for topics: as many as fit.
     * @param {Link} link
     * @returns {Request | null}
     */
    nextRequest(link: Link): Request | null;
    #private;
}
export type Link = import("./link.mjs").Link;
export type Request = import("./link.mjs").Request;
import { RefusedError } from './frames.mjs';
