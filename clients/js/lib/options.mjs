// The arguments of connect() and other calls, and their checks.
import { isTopic, kindOf, MAX_FRAME, shown } from './frames.mjs'

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
export function checkSignal(options = {}) {
  if (options === null || typeof options !== 'object') throw new TypeError(`options must be an object, not ${kindOf(options)}`)
  for (const name of Object.keys(options)) if (name !== 'signal') throw new TypeError(`there is no option ${JSON.stringify(name)}`)
  const { signal } = options
  if (signal === undefined) return undefined
  if (!(signal instanceof AbortSignal)) throw new TypeError(`the option signal must be an AbortSignal, not: ${kindOf(signal)}`)
  signal.throwIfAborted()
  return signal
}

/**
 * Separates topics from the options that follow them, and checks both.
 * @param {unknown[]} topics
 * @returns {{names: string[], signal: AbortSignal | undefined}}
 */
export function split(topics) {
  const last = topics.at(-1)
  const hasOptions = typeof last === 'object' && last !== null && !Array.isArray(last)
  const names = hasOptions ? topics.slice(0, -1) : topics
  const wrong = names.findIndex((name) => !isTopic(/** @type {string} */ (name)))
  if (wrong >= 0 || names.length === 0) throw new TypeError(`not a topic: ${shown(names[wrong])}`)
  return { names: /** @type {string[]} */ (names), signal: hasOptions ? checkSignal(last) : undefined }
}

export const DEFAULTS = {
  reconnect: true,
  minBackoff: 250,
  maxBackoff: 30_000,
  handshakeTimeout: 10_000,
  writeTimeout: 10_000,
  maxFrame: MAX_FRAME,
  maxQueue: 1 << 20,
  maxOutbox: 16 << 20,
}

const LONGEST = 2 ** 31 - 1 // ms, the longest time for setTimeout

/** @type {(least: number, most: number) => [(value: any) => boolean, string]} */
const number = (least, most) => [
  (value) => typeof value === 'number' && value >= least && value <= most,
  `a number from ${least} to ${most}`,
]

/**
 * What options must be: a check of each, and words for it.
 * @typedef {Record<string, [isRight: (value: any) => boolean, words: string]>} OptionKinds
 */

/** The options for any transport. @type {OptionKinds} */
const optionKinds = {
  signal: [(value) => value instanceof AbortSignal, 'an AbortSignal'],
  reconnect: [(value) => typeof value === 'boolean', 'true or false'],
  minBackoff: number(0, LONGEST),
  maxBackoff: number(0, LONGEST),
  handshakeTimeout: number(1, LONGEST),
  writeTimeout: number(1, LONGEST),
  maxFrame: number(4096, 2 ** 30),
  maxQueue: number(1, Number.MAX_SAFE_INTEGER),
  maxOutbox: number(0, Number.MAX_SAFE_INTEGER),
}

/**
 * @param {unknown} options
 * @param {OptionKinds} ofTransport the transport's own options
 */
export function checkOptions(options, ofTransport) {
  const kinds = { ...optionKinds, ...ofTransport }
  if (options === null || typeof options !== 'object') throw new TypeError(`options must be an object, not ${kindOf(options)}`)
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(kinds, name)) throw new TypeError(`there is no option ${JSON.stringify(name)}`)
    const [isRight, words] = kinds[name]
    if (value !== undefined && !isRight(value)) {
      const shown = name === 'secretKey' ? '' : typeof value === 'number' ? ` ${value}` : ` ${kindOf(value)}`
      throw new TypeError(`the option ${name} must be ${words}${shown && `, not:${shown}`}`)
    }
  }
}
