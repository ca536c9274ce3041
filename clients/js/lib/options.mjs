// The arguments of connect() and other calls, and their checks.
import { Endpoint, EndpointAddr, EndpointId, EndpointTicket, RelayMode } from '@number0/iroh'
import { isTopic, kindOf, MAX_FRAME, shown } from './frames.mjs'
import { call, release, within } from './link.mjs'

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

/**
 * Awaits a promise, or rejects with the signal's reason if it is aborted.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 */
export async function unlessAborted(promise, signal) {
  if (!signal) return promise
  /** @type {() => void} */
  let abort = () => {}
  /** @type {Promise<never>} */
  const aborted = new Promise((_, reject) => (abort = () => reject(signal.reason)))
  signal.addEventListener('abort', abort)
  if (signal.aborted) abort()
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

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
  alpn: 'alkpubsub/1',
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

/** What each option must be. @type {Record<keyof SpokeOptions, [(value: any) => boolean, string]>} */
const optionKinds = {
  secretKey: [(value) => typeof value === 'string' || value instanceof Uint8Array, 'a Uint8Array of 32 bytes, or 64 hex digits'],
  endpoint: [(value) => value instanceof Endpoint, 'an Endpoint of @number0/iroh'],
  bindAddr: [(value) => typeof value === 'string', 'HOST:PORT'],
  relays: [(value) => value === 'none' || value === 'n0', "'none' or 'n0'"],
  signal: [(value) => value instanceof AbortSignal, 'an AbortSignal'],
  alpn: [(value) => typeof value === 'string' && value !== '', 'a string that is not empty'],
  reconnect: [(value) => typeof value === 'boolean', 'true or false'],
  minBackoff: number(0, LONGEST),
  maxBackoff: number(0, LONGEST),
  handshakeTimeout: number(1, LONGEST),
  writeTimeout: number(1, LONGEST),
  maxFrame: number(4096, 2 ** 30),
  maxQueue: number(1, Number.MAX_SAFE_INTEGER),
  maxOutbox: number(0, Number.MAX_SAFE_INTEGER),
}

/** @param {unknown} options */
export function checkOptions(options) {
  if (options === null || typeof options !== 'object') throw new TypeError(`options must be an object, not ${kindOf(options)}`)
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(optionKinds, name)) throw new TypeError(`there is no option ${JSON.stringify(name)}`)
    const [isRight, words] = optionKinds[/** @type {keyof SpokeOptions} */ (name)]
    if (value !== undefined && !isRight(value)) {
      const shown = name === 'secretKey' ? '' : typeof value === 'number' ? ` ${value}` : ` ${kindOf(value)}`
      throw new TypeError(`the option ${name} must be ${words}${shown && `, not:${shown}`}`)
    }
  }
}

/**
 * @param {string} peer
 * @param {SpokeOptions} options
 */
export function parsePeer(peer, { endpoint, relays }) {
  if (typeof peer !== 'string') throw new TypeError(`a peer must be a string, not ${kindOf(peer)}`)
  const no = (/** @type {string} */ why, /** @type {unknown} */ cause) => {
    const shown = peer.length > 300 ? `${peer.slice(0, 300)}…` : peer
    return new TypeError(`neither a ticket nor NODEID@HOST:PORT: ${JSON.stringify(shown)}: ${why}`, { cause })
  }
  if (/\s/.test(peer)) throw no('it contains white space', undefined)
  const at = peer.indexOf('@')
  const node = (at < 0 ? peer : peer.slice(0, at)).toLowerCase()
  const isNode = /^[0-9a-f]{64}$/.test(node)
  if (at >= 0 && !isNode) throw no('a NodeID has 64 hex digits', undefined)
  try {
    if (!isNode) return EndpointTicket.fromString(peer).endpointAddr()
  } catch (cause) {
    throw no('not a ticket', cause)
  }
  if (at < 0 && relays !== 'n0' && !endpoint) throw no("a NodeID without an address needs relays: 'n0' or an endpoint", undefined)
  const hosts = at < 0 ? [] : peer.slice(at + 1).split(',')
  for (const host of hosts) {
    const [, ip, port] = /^(.+):([0-9]{1,5})$/.exec(host) ?? []
    if (port === undefined || !isAddress(ip)) throw no(`${JSON.stringify(host)} is not HOST:PORT with an IP address as HOST`, undefined)
    if (Number(port) < 1 || Number(port) > 65535) throw no(`a port must be 1 to 65535, not ${port}`, undefined)
  }
  try {
    return new EndpointAddr(EndpointId.fromString(node), null, hosts)
  } catch (cause) {
    throw no('invalid NodeID or address', cause)
  }
}

/** @param {string} ip an IPv4 address, or an IPv6 address in brackets */
function isAddress(ip) {
  if (/^\d{1,3}(\.\d{1,3}){3}$/.test(ip)) return ip.split('.').every((part) => Number(part) < 256)
  return /^\[[0-9a-f:.]+(%\d+)?\]$/i.test(ip) && URL.canParse(`http://${ip.replace(/%\d+/, '')}/`)
}

/**
 * @param {SpokeOptions} options
 * @param {number} timeout
 */
export async function bind({ secretKey, bindAddr, relays = 'none', signal }, timeout) {
  const builder = Endpoint.builder()
  if (relays === 'n0') {
    builder.applyN0()
  } else {
    builder.applyMinimal()
    builder.relayMode(RelayMode.disabled())
  }
  if (secretKey !== undefined) {
    const bytes = typeof secretKey === 'string' ? fromHex(secretKey) : secretKey
    if (bytes.length !== 32) throw new TypeError('the option secretKey must be a Uint8Array of 32 bytes, or 64 hex digits')
    builder.secretKey(Array.from(bytes))
  }
  if (bindAddr) {
    try {
      builder.bindAddr(bindAddr)
    } catch (cause) {
      throw new TypeError(`the option bindAddr must be IP:PORT, not ${JSON.stringify(bindAddr)}`, { cause })
    }
  }
  const bound = call(builder.bind())
  try {
    const endpoint = await within(bound, timeout, 'binding')
    if (!signal?.aborted) return endpoint
  } catch (error) {
    bound.then(release, () => {})
    throw error
  }
  bound.then(release)
  throw signal.reason
}

/** @param {string} text */
function fromHex(text) {
  const digits = text.trim()
  if (!/^[0-9a-f]{64}$/i.test(digits)) return new Uint8Array()
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16))
}
