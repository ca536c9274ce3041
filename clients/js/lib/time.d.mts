/**
 * Awaits a promise, or rejects with a CloseError after the limit.
 * @template T
 * @param {Promise<T>} promise
 * @param {number} ms
 * @param {string} what
 */
export function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T>;
/**
 * Awaits a promise, or rejects with the signal's reason if it is aborted.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 */
export function unlessAborted<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T>;
export function sleep(ms: number): Promise<void>;
