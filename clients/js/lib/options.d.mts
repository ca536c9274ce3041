/** @typedef {import('./iroh.mjs').IrohEndpoint} Endpoint */
/**
 * @typedef {{signal?: AbortSignal | undefined}} Cancellable
 */
/**
 * @typedef {object} SpokeOptions
 * @property {AbortSignal} [signal] cancels connect(); no effect once it has resolved
 * @property {Uint8Array | string} [secretKey] 32 bytes, or 64 hex digits as stored by `irohub id`;
 *   default: a new random key, so a new NodeID
 * @property {Endpoint} [endpoint] an endpoint of your own, which close() leaves open; `secretKey`,
 *   `bindAddr` and `relays` are ignored then
 * @property {string} [bindAddr] IP:PORT; default: any port on every address
 * @property {'none' | 'n0'} [relays] relay servers and discovery: none, or those of iroh's authors;
 *   default: 'none'
 * @property {string} [alpn] the protocol name; default: 'alkpubsub/1'
 * @property {boolean} [reconnect] whether to reconnect after a lost connection; default: true
 * @property {number} [minBackoff] ms before the first attempt to reconnect; doubled for each further
 *   attempt, and shortened randomly by up to a half; default: 250
 * @property {number} [maxBackoff] the longest pause between attempts, in ms; default: 30,000
 * @property {number} [handshakeTimeout] ms for each attempt to connect; while the spoke subscribes to
 *   its topics again, ms without an answer; default: 10,000
 * @property {number} [writeTimeout] ms without progress in writing, and for the hub to close the
 *   connection in close(); default: 10,000
 * @property {number} [maxFrame] the most bytes in one event, at least 4 KiB; more than the hub's limit
 *   is useless; default: 1 MiB
 * @property {number} [maxQueue] the most bytes queued for one subscription, where each event counts its
 *   text and 96 bytes; beyond it, the subscription ends as too slow; default: 1 MiB
 * @property {number} [maxOutbox] the most unwritten bytes before dispatchEvent() throws; default: 16 MiB
 */
/** Returns the checked signal. Throws its reason if it is aborted already. @param {Cancellable} [options] */
export function checkSignal(options?: Cancellable): AbortSignal | undefined;
/**
 * Separates topics from the options that follow them, and checks both.
 * @param {unknown[]} topics
 * @returns {{names: string[], signal: AbortSignal | undefined}}
 */
export function split(topics: unknown[]): {
    names: string[];
    signal: AbortSignal | undefined;
};
/**
 * @param {unknown} options
 * @param {OptionKinds} ofTransport the transport's own options
 */
export function checkOptions(options: unknown, ofTransport: OptionKinds): void;
export namespace DEFAULTS {
    export let reconnect: boolean;
    export let minBackoff: number;
    export let maxBackoff: number;
    export let handshakeTimeout: number;
    export let writeTimeout: number;
    export { MAX_FRAME as maxFrame };
    export let maxQueue: number;
    export let maxOutbox: number;
}
export type Endpoint = import("./iroh.mjs").IrohEndpoint;
export type Cancellable = {
    signal?: AbortSignal | undefined;
};
export type SpokeOptions = {
    /**
     * cancels connect(); no effect once it has resolved
     */
    signal?: AbortSignal | undefined;
    /**
     * 32 bytes, or 64 hex digits as stored by `irohub id`;
     * default: a new random key, so a new NodeID
     */
    secretKey?: string | Uint8Array<ArrayBufferLike> | undefined;
    /**
     * an endpoint of your own, which close() leaves open; `secretKey`,
     * `bindAddr` and `relays` are ignored then
     */
    endpoint?: import("@number0/iroh/index.js").Endpoint | undefined;
    /**
     * IP:PORT; default: any port on every address
     */
    bindAddr?: string | undefined;
    /**
     * relay servers and discovery: none, or those of iroh's authors;
     * default: 'none'
     */
    relays?: "none" | "n0" | undefined;
    /**
     * the protocol name; default: 'alkpubsub/1'
     */
    alpn?: string | undefined;
    /**
     * whether to reconnect after a lost connection; default: true
     */
    reconnect?: boolean | undefined;
    /**
     * ms before the first attempt to reconnect; doubled for each further
     * attempt, and shortened randomly by up to a half; default: 250
     */
    minBackoff?: number | undefined;
    /**
     * the longest pause between attempts, in ms; default: 30,000
     */
    maxBackoff?: number | undefined;
    /**
     * ms for each attempt to connect; while the spoke subscribes to
     * its topics again, ms without an answer; default: 10,000
     */
    handshakeTimeout?: number | undefined;
    /**
     * ms without progress in writing, and for the hub to close the
     * connection in close(); default: 10,000
     */
    writeTimeout?: number | undefined;
    /**
     * the most bytes in one event, at least 4 KiB; more than the hub's limit
     * is useless; default: 1 MiB
     */
    maxFrame?: number | undefined;
    /**
     * the most bytes queued for one subscription, where each event counts its
     * text and 96 bytes; beyond it, the subscription ends as too slow; default: 1 MiB
     */
    maxQueue?: number | undefined;
    /**
     * the most unwritten bytes before dispatchEvent() throws; default: 16 MiB
     */
    maxOutbox?: number | undefined;
};
/**
 * What options must be: a check of each, and words for it.
 */
export type OptionKinds = Record<string, [isRight: (value: any) => boolean, words: string]>;
import { MAX_FRAME } from './frames.mjs';
