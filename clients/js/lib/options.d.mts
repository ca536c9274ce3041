/**
 * @typedef {{signal?: AbortSignal | undefined}} Cancellable
 */
/**
 * @typedef {object} SpokeOptions
 * @property {AbortSignal} [signal] gives connect() up; later it has no effect
 * @property {Uint8Array | string} [secretKey] 32 bytes, or 64 hex digits as `irohub id` keeps them;
 *   none: a new key, and so a new NodeID
 * @property {Endpoint} [endpoint] one of your own, which close() leaves open; `secretKey`, `bindAddr`
 *   and `relays` are then its matter
 * @property {string} [bindAddr] HOST:PORT, by numbers; none: any port of every address
 * @property {'none' | 'n0'} [relays] relay servers and discovery: none, or those of iroh's authors;
 *   'none' unless given
 * @property {string} [alpn] 'alkpubsub/1' unless given
 * @property {boolean} [reconnect] whether a lost connection is made anew; true unless given
 * @property {number} [minBackoff] ms before the first attempt to reconnect, doubled for each
 *   further one, and shortened by chance by up to a half; 250 unless given
 * @property {number} [maxBackoff] ms, over which it does not grow; 30,000 unless given
 * @property {number} [handshakeTimeout] ms for each attempt to connect, then without an answer while the
 *   hub is asked for all topics; 10,000 unless given
 * @property {number} [writeTimeout] ms without progress in writing, and for the hub's part in close();
 *   10,000 unless given
 * @property {number} [maxFrame] bytes of one event; larger than the hub's is of no use; 1 MiB unless
 *   given, and at least 4 KiB
 * @property {number} [maxQueue] bytes of memory waiting for one subscription; over it, that ends as too slow;
 *   1 MiB unless given. An event counts for its text, and 96 bytes
 * @property {number} [maxOutbox] bytes that dispatchEvent() may be ahead of the network before it
 *   throws; 16 MiB unless given
 */
/**
 * Awaits a promise, or rejects with what a signal is aborted with.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 */
export function unlessAborted<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T>;
/** Throws what a signal was aborted with. @param {Cancellable} [options] */
export function checkSignal(options?: Cancellable): AbortSignal | undefined;
/**
 * Takes the options from behind topics, and checks both.
 * @param {unknown[]} topics
 * @returns {{names: string[], signal: AbortSignal | undefined}}
 */
export function split(topics: unknown[]): {
    names: string[];
    signal: AbortSignal | undefined;
};
/** @param {unknown} options */
export function checkOptions(options: unknown): void;
/**
 * @param {string} peer
 * @param {SpokeOptions} options
 */
export function parsePeer(peer: string, { endpoint, relays }: SpokeOptions): EndpointAddr;
/**
 * @param {SpokeOptions} options
 * @param {number} timeout
 */
export function bind({ secretKey, bindAddr, relays, signal }: SpokeOptions, timeout: number): Promise<Endpoint>;
export namespace DEFAULTS {
    export let alpn: string;
    export let reconnect: boolean;
    export let minBackoff: number;
    export let maxBackoff: number;
    export let handshakeTimeout: number;
    export let writeTimeout: number;
    export { MAX_FRAME as maxFrame };
    export let maxQueue: number;
    export let maxOutbox: number;
}
export type Cancellable = {
    signal?: AbortSignal | undefined;
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
    minBackoff?: number | undefined;
    /**
     * ms, over which it does not grow; 30,000 unless given
     */
    maxBackoff?: number | undefined;
    /**
     * ms for each attempt to connect, then without an answer while the
     * hub is asked for all topics; 10,000 unless given
     */
    handshakeTimeout?: number | undefined;
    /**
     * ms without progress in writing, and for the hub's part in close();
     * 10,000 unless given
     */
    writeTimeout?: number | undefined;
    /**
     * bytes of one event; larger than the hub's is of no use; 1 MiB unless
     * given, and at least 4 KiB
     */
    maxFrame?: number | undefined;
    /**
     * bytes of memory waiting for one subscription; over it, that ends as too slow;
     * 1 MiB unless given. An event counts for its text, and 96 bytes
     */
    maxQueue?: number | undefined;
    /**
     * bytes that dispatchEvent() may be ahead of the network before it
     * throws; 16 MiB unless given
     */
    maxOutbox?: number | undefined;
};
import { EndpointAddr } from '@number0/iroh';
import { Endpoint } from '@number0/iroh';
import { MAX_FRAME } from './frames.mjs';
