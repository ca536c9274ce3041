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
 * Reads what a frame holds.
 * @param {Uint8Array} body
 * @returns {{envelope: Envelope, text: string}}
 */
export function parse(body: Uint8Array): {
    envelope: Envelope;
    text: string;
};
/**
 * @param {any} value that JSON.parse made of the text of a sound envelope
 * @returns {Envelope}
 */
export function envelopeOf({ type, id, payload, from }: any): Envelope;
/**
 * Makes the frame of an event to publish. Throws a TypeError for one that is not allowed.
 * @param {Publication} event
 * @param {number} [maxFrame]
 */
export function encode(event: Publication, maxFrame?: number): Uint8Array<ArrayBuffer>;
/** @param {unknown} value */
export function shown(value: unknown): string;
/** @param {unknown} value */
export function kindOf(value: unknown): string;
/**
 * @param {Publication} event
 * @param {number} maxFrame
 */
export function frame({ type, id, payload }: Publication, maxFrame: number): Uint8Array<ArrayBuffer>;
export function bytesOf(text: string): Uint8Array<ArrayBuffer>;
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
export const MAX_FRAME: number;
export const FROM: 74;
export const ANSWER: number;
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
