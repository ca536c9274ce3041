/** Returns the topic of an event. @param {Publication} event */
export function topicOf({ type, id }: Publication): string;
/** Returns whether a topic is valid. @param {string} topic */
export function isTopic(topic: string): boolean;
/**
 * Returns the pattern that matches a topic: `T:*`, where T is the part before the first colon.
 * @param {string} topic
 */
export function patternOf(topic: string): string;
/**
 * Returns whether a subscription receives the events of a topic.
 * @param {string} subscription
 * @param {string} topic
 */
export function matches(subscription: string, topic: string): boolean;
/**
 * Returns the names of an object's members in order, and its nesting depth. JSON.parse reports neither.
 * @param {string} text valid JSON
 */
export function scan(text: string): {
    names: string[];
    depth: number;
};
/**
 * Decodes the body of a frame. Throws a FrameError.
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
 * @param {any} value the result of JSON.parse for a valid envelope
 * @returns {Envelope}
 */
export function envelopeOf({ type, id, payload, from }: any): Envelope;
/**
 * Encodes an event as a frame. Throws a TypeError for an invalid event.
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
/** The close codes of a connection. */
export const CloseCode: Readonly<{
    normal: 0;
    shutdown: 1;
    protocol: 2;
    notAdmitted: 3;
    tooSlow: 4;
    tooMany: 5;
    timeout: 6;
}>;
/** Why a connection ended. The name depends on the code: NotAdmitted, TooSlow, ConnectionLost … */
export class CloseError extends Error {
    /**
     * @param {number | null} code one of CloseCode, or a code of a later version; null: lost without a code
     * @param {string} reason human-readable
     * @param {unknown} [cause]
     */
    constructor(code: number | null, reason: string, cause?: unknown);
    code: number | null;
    reason: string;
}
/** The hub refused a topic or a published event. */
export class RefusedError extends Error {
    /** @param {any} payload the payload of `__error` */
    constructor(payload: any);
    /** forbidden, invalid_topic, too_many_subscriptions, invalid_payload, or a code of a later version */
    code: string;
    topic: string;
}
/** The error for bytes that are not a valid frame. */
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
/** Splits a stream of bytes into frames. */
export class FrameReader {
    constructor(maxFrame?: number);
    /** Yields the body of each frame that the chunk completes. Throws a FrameError. @param {Uint8Array} chunk */
    push(chunk: Uint8Array): Generator<Uint8Array<ArrayBufferLike>, void, unknown>;
    /** Throws a FrameError if the stream ends inside a frame here. */
    end(): void;
    #private;
}
/**
 * An event as received from the hub.
 */
export type Envelope = {
    type: string;
    /**
     * `''` if the event has none
     */
    id: string;
    /**
     * `undefined` if the event has none. JSON.parse decodes it: a number that does not
     * fit a double is rounded, a too large one (1e400) is Infinity, and of repeated members the last one counts.
     */
    payload: unknown;
    /**
     * the NodeID of the publisher, which the hub has verified; missing if the event is
     * the hub's own
     */
    from?: string | undefined;
};
/**
 * An event to publish. The topic is `type`, or `type:id` if there is an `id`. `payload` is anything that
 * JSON.stringify accepts, except NaN and Infinity, which JSON.stringify would replace by null.
 */
export type Publication = {
    type: string;
    id?: string;
    payload?: unknown;
};
