// The transport: connections over iroh. No other module touches iroh's native library, called "the library" here.
// @ts-ignore: an application may lack Node's declarations; Bun and Deno have this module too.
import { isMainThread } from 'node:worker_threads'
import { Endpoint, EndpointAddr, EndpointId, EndpointTicket, RelayMode } from '@number0/iroh'
import { bytesOf, CloseCode, CloseError, kindOf } from './frames.mjs'
import { DEFAULTS } from './options.mjs'
import { sleep, within } from './time.mjs'

/** @typedef {import('@number0/iroh').Endpoint} IrohEndpoint */
/** @typedef {import('@number0/iroh').EndpointAddr} IrohAddress */
/** @typedef {import('@number0/iroh').Connection} IrohConnection */
/** @typedef {import('./options.mjs').SpokeOptions} SpokeOptions */

/** The options that only this transport has. @type {import('./options.mjs').OptionKinds} */
export const irohOptions = {
  secretKey: [(value) => typeof value === 'string' || value instanceof Uint8Array, 'a Uint8Array of 32 bytes, or 64 hex digits'],
  endpoint: [(value) => value instanceof Endpoint, 'an Endpoint of @number0/iroh'],
  bindAddr: [(value) => typeof value === 'string', 'HOST:PORT'],
  relays: [(value) => value === 'none' || value === 'n0', "'none' or 'n0'"],
  alpn: [(value) => typeof value === 'string' && value !== '', 'a string that is not empty'],
}

// --- Calls into the library ---

// The number of promises that the library has to settle. If the library settles one just after a Worker's
// thread has ended, it crashes the process. A read that waits for the network is an exception: its stream
// ends with the thread, and it is never settled. So other calls are not left pending where that can be
// avoided: no closed(), and in a Worker no acceptUni() or acceptBi().
let calls = 0
/** Endpoints to close when a Worker ends; otherwise a connect() would be settled long after. @type {Set<Endpoint>} */
const unsettled = new Set()

/**
 * @template T
 * @param {Promise<T>} promise
 */
async function call(promise) {
  calls++
  try {
    return await promise
  } finally {
    calls--
  }
}

if (!isMainThread) {
  // Runs for process.exit() and uncaught errors, but not for terminate(). Promises do not settle in here.
  const node = /** @type {any} */ (globalThis).process
  const pause = (/** @type {number} */ ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
  node.once('exit', () => {
    if (calls === 0) return
    for (const endpoint of unsettled) endpoint.close()
    for (let n = 0; n < 400 && [...unsettled].some((endpoint) => !endpoint.isClosed()); n++) pause(10)
    pause(unsettled.size > 0 ? 500 : 50) // the library needs 100 ms to format an error
  })
}

/**
 * Closes an endpoint. This can take 3 s.
 * @param {Endpoint} endpoint
 */
async function release(endpoint) {
  unsettled.add(endpoint)
  try {
    await call(endpoint.close())
  } finally {
    unsettled.delete(endpoint)
  }
}

// --- Endpoint ---

const MAX_DIALS = 4 // the most concurrent attempts to connect

/** The endpoint of a spoke, and the address of its hub. */
export class IrohTransport {
  #endpoint
  #address
  #alpn
  #isOwn
  #hasAddress
  #isOver = false
  /** Attempts to connect that the library has not settled yet. @type {Set<Promise<unknown>>} */
  #dials = new Set()

  /**
   * Checks a peer and the options of an endpoint, and binds one unless the options have it.
   * @param {string} peer
   * @param {SpokeOptions} options
   */
  static async open(peer, options) {
    const { signal, endpoint, handshakeTimeout = DEFAULTS.handshakeTimeout } = options
    const address = parsePeer(peer, options)
    signal?.throwIfAborted()
    return new IrohTransport(endpoint ?? (await bind(options, handshakeTimeout)), address, options)
  }

  /**
   * @param {Endpoint} endpoint
   * @param {EndpointAddr} address
   * @param {SpokeOptions} options
   */
  constructor(endpoint, address, { endpoint: given, alpn = 'alkpubsub/1', bindAddr }) {
    this.#endpoint = endpoint
    this.#address = address
    this.#alpn = Array.from(bytesOf(alpn))
    this.#isOwn = !given
    this.#hasAddress = Boolean(bindAddr)
    /** The NodeID of this spoke. */
    this.node = endpoint.id().toString()
    /** The NodeID of the hub. */
    this.hub = address.id().toString()
  }

  /** Makes a connection with a stream. Rejects with a CloseError. @param {number} timeout ms */
  async dial(timeout) {
    // A late connection is closed when it arrives. Until then it counts towards MAX_DIALS.
    if (this.#dials.size >= MAX_DIALS) await within(Promise.race(this.#dials), timeout, 'connecting')
    let isGivenUp = false
    /** @type {IrohConnection | undefined} */
    let connection
    const dial = (async () => {
      try {
        connection = await call(this.#endpoint.connect(this.#address, this.#alpn))
      } catch (cause) {
        throw closeError(/** @type {Error} */ (cause).message, cause)
      }
      if (isGivenUp || this.#isOver) {
        connection.close(0n, [])
        throw new CloseError(CloseCode.normal, 'given up')
      }
      try {
        return { connection, stream: await call(connection.openBi()) }
      } catch (cause) {
        throw closeError(connection.closeReason() ?? /** @type {Error} */ (cause).message, cause)
      }
    })()
    const settled = dial.then(() => {}, () => {})
    this.#dials.add(settled)
    if (this.#isOwn) unsettled.add(this.#endpoint)
    settled.then(() => {
      this.#dials.delete(settled)
      if (this.#dials.size === 0 && !this.#isOver) unsettled.delete(this.#endpoint)
    })
    try {
      const reached = await within(dial, timeout, 'connecting')
      if (this.#isOver) throw new CloseError(CloseCode.normal, 'given up')
      return new Connection(reached.connection, reached.stream)
    } catch (error) {
      isGivenUp = true
      connection?.close(0n, [])
      throw error
    }
  }

  /** Gives up all attempts to connect. */
  giveUp() {
    this.#isOver = true
  }

  /**
   * Closes the endpoint, unless it is the application's. After an attempt that was given up, iroh takes 3 s, in
   * which it still answers packets for it. Usually nobody has to wait for that. But the library must have settled
   * its promises before a Worker ends, and the application may bind an address of its own again.
   */
  async close() {
    this.giveUp()
    if (!this.#isOwn) return
    const released = release(this.#endpoint)
    if (this.#dials.size > 0 && isMainThread && !this.#hasAddress) released.catch(() => {})
    else await released
  }
}

// --- Connection ---

const WINDOW = 4 << 20 // the most bytes received but not read: iroh's stream window, with a margin
const POLL = 20 // ms between checks whether a connection is closed; the library has no other way
const CHUNK = 64 << 10 // the most bytes in one read of the library

/** A connection to a hub, with one stream. */
class Connection {
  #connection
  #stream
  /** Calls into the library that are not settled yet. @type {Set<Promise<unknown>>} */
  #calls = new Set()
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #look
  #read = 0 // bytes read
  #unread = { received: 0, read: 0, sent: 0, since: performance.now(), bytes: 0 }

  /**
   * @param {IrohConnection} connection
   * @param {import('@number0/iroh').BiStream} stream
   */
  constructor(connection, stream) {
    this.#connection = connection
    this.#stream = { send: stream.send, recv: stream.recv }
  }

  /**
   * Calls abort if the hub opens streams, which it must not. iroh would buffer what it sends on them: iroh
   * allows 200 streams with 1.25 MB each. A Worker cannot wait for a stream; see #countUnread.
   * @param {(error: CloseError) => void} abort
   */
  guard(abort) {
    this.#connection.setMaxConcurrentUniStreams(0n)
    this.#connection.setMaxConcurrentBiStreams(0n)
    if (!isMainThread) {
      this.#look = setInterval(() => this.#countUnread(abort), 100)
      return
    }
    for (const opened of [() => this.#connection.acceptUni(), () => this.#connection.acceptBi()]) {
      this.#call(/** @type {Promise<unknown>} */ (opened())).then(
        () => abort(new CloseError(CloseCode.protocol, 'a hub must not open streams')),
        () => {}, // the connection has ended
      )
    }
  }

  /**
   * Calls abort if the connection has received far more than was read: the rest is on streams that a hub must
   * not open. Bytes that our own traffic or the passing of time explain are not counted.
   * @param {(error: CloseError) => void} abort
   */
  #countUnread(abort) {
    const { udpRxBytes: received, udpTxBytes: sent } = this.#connection.stats()
    const now = performance.now()
    const read = this.#read
    const last = this.#unread
    const explained = 1.25 * (read - last.read) + (sent - last.sent) / 4 + (now - last.since)
    const bytes = Math.max(0, last.bytes + received - last.received - explained)
    this.#unread = { received, read, sent, since: now, bytes }
    if (bytes > WINDOW) abort(new CloseError(CloseCode.protocol, `${Math.round(bytes)} bytes arrived outside this spoke's stream`))
  }

  /**
   * @template T
   * @param {Promise<T>} promise
   */
  #call(promise) {
    this.#calls.add(promise)
    const done = () => this.#calls.delete(promise)
    promise.then(done, done)
    return call(promise)
  }

  /** Resolves with the bytes that come next; none: the end of the stream. Rejects with a CloseError. */
  async read() {
    try {
      const chunk = await this.#call(this.#stream.recv.read(CHUNK))
      this.#read += chunk.length
      const bytes = new Uint8Array(chunk.length)
      bytes.set(chunk)
      return bytes
    } catch (cause) {
      throw closeError(this.#connection.closeReason() ?? /** @type {Error} */ (cause).message, cause)
    }
  }

  /** Resolves when the library has taken the bytes. @param {Uint8Array} bytes */
  async write(bytes) {
    await this.#call(this.#stream.send.writeAll(toArray(bytes)))
  }

  /** Ends the spoke's half of the stream. */
  async finish() {
    await this.#call(this.#stream.send.finish())
  }

  /** Resolves with how the hub has closed the connection, after the end of its stream. @param {number} timeout ms */
  async closed(timeout) {
    for (const since = performance.now(); performance.now() - since < timeout; await sleep(POLL)) {
      const words = this.#connection.closeReason()
      if (words !== null) return closeError(words)
    }
    return new CloseError(CloseCode.timeout, `closing by the hub took over ${timeout} ms`)
  }

  /** Closes the connection at once. No effect if it is closed already. @param {CloseError} error */
  close({ code, reason }) {
    clearInterval(this.#look)
    this.#connection.close(BigInt(code ?? 0), Array.from(bytesOf(reason)))
  }

  /** Resolves when the library has settled all calls, or after 1 s. */
  async settled() {
    if (this.#calls.size === 0) return
    await within(Promise.allSettled(this.#calls), 1000, 'the end of the calls').catch(() => {}) // no timer stays behind
  }
}

/** Converts to an array, as the library accepts no typed arrays. Array.from is ten times slower. @param {Uint8Array} bytes */
function toArray(bytes) {
  const array = new Array(bytes.length)
  for (let i = 0; i < bytes.length; i++) array[i] = bytes[i]
  return array
}

/**
 * Parses the library's text about how a connection ended. The library gives the code nowhere else.
 * @param {string} words
 * @param {unknown} [cause]
 */
function closeError(words, cause) {
  const closed = /^closed by peer: (?:([^]*) \(code (\d+)\)|(\d+))$/.exec(words)
  if (closed) return new CloseError(Number(closed[2] ?? closed[3]), closed[1] ?? '', cause)
  const reset = /^Reset\((\d+)\)/.exec(words)
  if (reset) return new CloseError(Number(reset[1]), 'the hub aborted the stream', cause)
  return new CloseError(null, `connection lost: ${words.split('\n', 1)[0]}`, cause)
}

// --- Arguments ---

/**
 * Reads the address of a hub. Throws a TypeError.
 * @param {string} peer
 * @param {SpokeOptions} options
 */
function parsePeer(peer, { endpoint, relays }) {
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
 * Makes an endpoint.
 * @param {SpokeOptions} options
 * @param {number} timeout ms
 */
async function bind({ secretKey, bindAddr, relays = 'none', signal }, timeout) {
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
