/**
 * A spoke of an irohub hub: publish and subscribe over iroh, as an event target. It speaks
 * alkpubsub/1, and needs Node 20.3 or later.
 *
 * From top to bottom: topics, errors, frames, calls of the library, Link (one connection), Loop (a
 * subscription), Spoke (what an application uses), options.
 */
// @ts-ignore: an application may have no declarations of Node's; Bun and Deno have the module too.
import { isMainThread } from 'node:worker_threads'
import { Endpoint, EndpointAddr, EndpointId, EndpointTicket, RelayMode } from '@number0/iroh'

/** Of this package. @type {string} */
export const version = '0.1.0'

/**
 * An event as it came from the hub.
 * @typedef {object} Envelope
 * @property {string} type
 * @property {string} id `''` where the event has none
 * @property {unknown} payload `undefined` where the event has none. It is JSON.parse's, so a number
 *   that a double cannot hold is rounded, one that is too large for it (1e400) is Infinity, and the last
 *   of a repeated member counts.
 * @property {string} [from] the NodeID of the spoke that published it, which the hub vouches for;
 *   without it, the event is the hub's own
 */

/**
 * An event to publish. The topic is `type`, or `type:id` where there is an `id`; `payload` is what
 * JSON.stringify takes, but NaN and Infinity are refused: JSON.stringify would make null of them.
 * @typedef {{type: string, id?: string, payload?: unknown}} Publication
 */

/**
 * The detail of `__disconnect`: why the connection ended, and whether the spoke comes back.
 * @typedef {{error: Error, reconnecting: boolean}} Disconnect
 */

/**
 * The detail of `__reconnect`: how many attempts it took.
 * @typedef {{attempts: number}} Reconnect
 */

/**
 * How a spoke stands. `reconnecting` is from the loss of a connection until the hub has answered for
 * all topics over another; `closed` is the end for good.
 * @typedef {object} State
 * @property {'connected' | 'reconnecting' | 'closed'} name
 * @property {number} attempt of reconnecting: 1 for the first; else 0
 * @property {Error | null} error reconnecting: why the connection was lost, or the attempt before this
 *   one failed; closed: what ended the spoke, null after close()
 */

/**
 * The events of some topics, for one `for await`. It has a queue of its own, and goes on over lost
 * connections. The loop returns after Spoke.close(), behind what had come. It throws what else ended
 * it, behind what had come: what ended the spoke, the hub's refusal of a topic, what a signal was
 * aborted with, or a CloseError named TooSlow where over maxQueue was waiting: the spoke and its
 * other subscriptions go on then. `break` closes it.
 * @typedef {AsyncIterableIterator<Envelope> & {readonly topics: readonly string[], close(): void}} Subscription
 */

/**
 * @typedef {{signal?: AbortSignal | undefined}} Cancellable
 */

/**
 * A CustomEvent, which not every project has a declaration of.
 * @template T
 * @typedef {Event & {readonly detail: T} & (typeof globalThis extends {CustomEvent: {prototype: infer E}}
 *   ? Omit<E, 'detail'> : {})} Detailed
 */

/**
 * What a listener gets: for the four names that are no topics an event about the connection, for
 * a topic an envelope.
 * @template {string} T
 * @typedef {T extends '__disconnect' ? Detailed<Disconnect>
 *   : T extends '__reconnect' ? Detailed<Reconnect>
 *   : T extends '__error' ? Detailed<RefusedError>
 *   : T extends '__state' ? Detailed<State>
 *   : Detailed<Envelope>} SpokeEvent
 */

/**
 * @template {string} T
 * @typedef {((event: SpokeEvent<T>) => void) | {handleEvent(event: SpokeEvent<T>): void}} Listener
 */

/**
 * As for any event target.
 * @typedef {{capture?: boolean, once?: boolean, passive?: boolean, signal?: AbortSignal}} ListenerOptions
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
 *   given, and at least 4,096
 * @property {number} [maxQueue] bytes of memory waiting for one subscription; over it, that ends as too slow;
 *   1 MiB unless given. An event counts for its text, and 96 bytes
 * @property {number} [maxOutbox] bytes that dispatchEvent() may be ahead of the network before it
 *   throws; 16 MiB unless given
 */

// --- Topics ---

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

const MAX_TOPIC = 1024

/** The topic of an event. @param {Publication} event */
export function topicOf({ type, id }) {
  return id ? `${type}:${id}` : type
}

/** Whether an event may have this topic, and a spoke subscribe to it. @param {string} topic */
export function isTopic(topic) {
  return (
    typeof topic === 'string' &&
    !topic.startsWith('__') &&
    !/[\u0000-\u001f\u007f-\u009f]/.test(topic) &&
    topic.isWellFormed() &&
    topic.length > 0 &&
    encoder.encode(topic).length <= MAX_TOPIC
  )
}

/**
 * The pattern to which a topic belongs: `T:*`, where T is what stands before the first colon.
 * @param {string} topic
 */
export function patternOf(topic) {
  const colon = topic.indexOf(':')
  return `${colon < 0 ? topic : topic.slice(0, colon)}:*`
}

/**
 * Whether an event of a topic goes to a subscription.
 * @param {string} subscription
 * @param {string} topic
 */
export function matches(subscription, topic) {
  return subscription === topic || subscription === patternOf(topic)
}

// --- Errors ---

/** The codes with which a connection is closed. */
export const CloseCode = Object.freeze({
  normal: 0,
  shutdown: 1,
  protocol: 2,
  notAdmitted: 3,
  tooSlow: 4,
  tooMany: 5, // or replaced by a newer spoke of the same NodeID
  timeout: 6,
})

const closeNames = ['Closed', 'HubShutdown', 'ProtocolError', 'NotAdmitted', 'TooSlow', 'TooMany', 'Timeout']

/** Why a connection ended. Its name goes with the code: NotAdmitted, TooSlow, ConnectionLost … */
export class CloseError extends Error {
  /**
   * @param {number | null} code one of CloseCode, or one of a later version; null: lost without one
   * @param {string} reason for people
   * @param {unknown} [cause]
   */
  constructor(code, reason, cause) {
    super(code === null ? reason : `${reason || 'closed'} (code ${code})`, { cause })
    this.name = code === null ? 'ConnectionLost' : (closeNames[code] ?? 'CloseError')
    this.code = code
    this.reason = reason
  }
}

/** The hub refused a topic, or an event that was published. */
export class RefusedError extends Error {
  /** @param {any} payload that of `__error` */
  constructor(payload) {
    const text = (/** @type {string} */ name) => (typeof payload?.[name] === 'string' ? payload[name] : '')
    super(`refused: ${text('code')} ${JSON.stringify(text('topic'))}: ${text('message')}`)
    this.name = 'RefusedError'
    /** forbidden, invalid_topic, too_many_subscriptions, invalid_payload, or one of a later version */
    this.code = text('code')
    this.topic = text('topic')
  }
}

/** Bytes that are no frame of the protocol. */
export class FrameError extends Error {
  /**
   * @param {'length'|'truncated'|'utf8'|'json'|'depth'|'not_object'|'type'|'id'|'from'|'repeated'|'surrogate'} flaw
   * @param {string} message
   */
  constructor(flaw, message) {
    super(message)
    this.name = 'FrameError'
    this.flaw = flaw
  }
}

/**
 * How a connection ended, from the words of the library, which has the code nowhere else.
 * @param {string} words
 * @param {unknown} [cause]
 */
function closeError(words, cause) {
  const closed = /^closed by peer: (?:([^]*) \(code (\d+)\)|(\d+))$/.exec(words)
  if (closed) return new CloseError(Number(closed[2] ?? closed[3]), closed[1] ?? '', cause)
  const reset = /^Reset\((\d+)\)/.exec(words)
  if (reset) return new CloseError(Number(reset[1]), 'the hub has aborted the stream', cause)
  return new CloseError(null, `connection lost: ${words.split('\n', 1)[0]}`, cause)
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {number} ms
 * @param {string} what
 */
async function within(promise, ms, what) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  /** @type {Promise<never>} */
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new CloseError(CloseCode.timeout, `${what} took over ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Awaits a promise, or rejects with what a signal is aborted with.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 */
async function unlessAborted(promise, signal) {
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

/** Throws what a signal was aborted with. @param {Cancellable} [options] */
function checkSignal(options = {}) {
  if (options === null || typeof options !== 'object') throw new TypeError(`options are an object, not ${kindOf(options)}`)
  for (const name of Object.keys(options)) if (name !== 'signal') throw new TypeError(`there is no option ${JSON.stringify(name)}`)
  const { signal } = options
  if (signal === undefined) return undefined
  if (!(signal instanceof AbortSignal)) throw new TypeError(`the option signal is an AbortSignal; this is none: ${kindOf(signal)}`)
  signal.throwIfAborted()
  return signal
}

/** @param {number} ms @returns {Promise<void>} */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// --- Frames ---

const MAX_FRAME = 1 << 20
const MAX_DEPTH = 128
const FROM = 74 // bytes of the member that a hub adds
const ANSWER = 4 << 10 // bytes that a hub's answer may have, whatever an event may have
const CHUNK = 64 << 10 // bytes that go through the library at once

/**
 * The names of an object's members as they come, and how deep it is nested. JSON.parse tells neither.
 * @param {string} text valid JSON
 */
export function scan(text) {
  /** @type {string[]} */
  const names = []
  let depth = 0
  let deepest = 0
  let before = '' // the last of {}[], at the first level
  for (let i = 0; i < text.length; i++) {
    const c = text[i]
    if (c === '"') {
      const start = i
      do i = text.indexOf('"', i + 1)
      while (isEscaped(text, i))
      if (depth === 1 && before === '{') {
        names.push(JSON.parse(text.slice(start, i + 1)))
        before = ':' // the value comes next
      }
    } else if (c === '{' || c === '[') {
      if (++depth === 1) before = c
      deepest = Math.max(deepest, depth)
    } else if (c === '}' || c === ']') {
      depth--
    } else if (c === ',' && depth === 1 && before === ':') {
      before = '{'
    }
  }
  return { names, depth: deepest }
}

/**
 * Whether an odd number of backslashes stands before a place.
 * @param {string} text
 * @param {number} at
 */
function isEscaped(text, at) {
  let start = at
  while (text[start - 1] === '\\') start--
  return (at - start) % 2 === 1
}

/**
 * Reads what a frame holds. Throws a FrameError.
 * @param {Uint8Array} body
 * @returns {Envelope}
 */
export function decode(body) {
  return parse(body).envelope
}

/**
 * Reads what a frame holds.
 * @param {Uint8Array} body
 * @returns {{envelope: Envelope, text: string}}
 */
function parse(body) {
  let text, value
  try {
    text = decoder.decode(body)
  } catch {
    throw new FrameError('utf8', 'not UTF-8')
  }
  try {
    value = JSON.parse(text)
  } catch {
    throw new FrameError('json', 'not JSON')
  }
  const { names, depth } = scan(text)
  if (depth > MAX_DEPTH) throw new FrameError('depth', `nested more than ${MAX_DEPTH} deep`)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FrameError('not_object', 'not an object')
  }
  for (const name of ['type', 'id', 'payload', 'from']) {
    if (names.indexOf(name) !== names.lastIndexOf(name)) throw new FrameError('repeated', `${name} is repeated`)
  }
  const { type, id = '', payload, from } = value
  if (typeof type !== 'string' || type === '') throw new FrameError('type', 'type is not a string, or empty')
  if (typeof id !== 'string') throw new FrameError('id', 'id is not a string')
  const requests = type === '__subscribe' || type === '__unsubscribe'
  const strings = requests ? [type, id].concat(payload?.topic, payload?.topics) : [type, id]
  if (strings.some((s) => typeof s === 'string' && !s.isWellFormed())) {
    throw new FrameError('surrogate', 'half a surrogate pair')
  }
  const isEvent = !type.startsWith('__')
  if (isEvent && Object.hasOwn(value, 'from') && !(typeof from === 'string' && /^[0-9a-f]{64}$/.test(from))) {
    throw new FrameError('from', 'from is not a NodeID')
  }
  return { envelope: envelopeOf(value), text }
}

/**
 * @param {any} value that JSON.parse made of the text of a sound envelope
 * @returns {Envelope}
 */
function envelopeOf({ type, id = '', payload, from }) {
  return { type, id, payload, ...(from && !type.startsWith('__') && { from }) }
}

/**
 * Makes the frame of an event to publish. Throws a TypeError for one that is not allowed.
 * @param {Publication} event
 * @param {number} [maxFrame]
 */
export function encode(event, maxFrame = MAX_FRAME) {
  if (event === null || typeof event !== 'object') throw new TypeError('an event is an object with a type')
  const { type, id = '', payload } = event
  if (typeof type !== 'string') throw new TypeError(`an event's type is a string, not ${kindOf(type)}`)
  if (typeof id !== 'string') throw new TypeError(`an event's id is a string, not ${kindOf(id)}`)
  const topic = topicOf({ type, id })
  if (type === '' || !isTopic(topic)) throw new TypeError(`not a topic: ${JSON.stringify(topic)}`)
  if (typeof payload === 'function' || typeof payload === 'symbol') {
    throw new TypeError(`a payload is what JSON has, not ${kindOf(payload)}`)
  }
  return frame({ type, id, payload }, maxFrame - FROM)
}

/** @param {unknown} value */
function shown(value) {
  return typeof value === 'string' ? JSON.stringify(value) : kindOf(value)
}

/** @param {unknown} value */
function kindOf(value) {
  return value === null ? 'null' : typeof value === 'object' ? (value.constructor?.name ?? 'an object') : typeof value
}

/**
 * @param {Publication} event
 * @param {number} maxFrame
 */
function frame({ type, id, payload }, maxFrame) {
  const text = toJSON({ type, id: id || undefined, payload })
  if (scan(text).depth > MAX_DEPTH) throw new TypeError(`a payload is nested at most ${MAX_DEPTH - 1} deep`)
  const body = encoder.encode(text)
  if (body.length > maxFrame) throw new TypeError(`${body.length} bytes; at most ${maxFrame} are allowed`)
  const bytes = new Uint8Array(4 + body.length)
  new DataView(bytes.buffer).setUint32(0, body.length)
  bytes.set(body, 4)
  return bytes
}

/** JSON.stringify, which throws for what it would make null of. @param {unknown} value */
function toJSON(value) {
  try {
    const text = JSON.stringify(value)
    // Most have no null, and need no second look, which is slow.
    return text.includes('null') ? JSON.stringify(value, refuseNonFinite) : text
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    throw new TypeError(`a payload is nested at most ${MAX_DEPTH - 1} deep`, { cause })
  }
}

/** @param {string} name @param {unknown} value */
function refuseNonFinite(name, value) {
  if ((typeof value === 'number' || value instanceof Number) && !Number.isFinite(Number(value))) {
    throw new TypeError(`JSON has no ${value}${name && `, the value of ${JSON.stringify(name)}`}`)
  }
  return value
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  #maxFrame
  #header = 0 // bytes of the length that are there
  #length = 0
  /** @type {Uint8Array | null} */
  #body = null
  #filled = 0

  constructor(maxFrame = MAX_FRAME) {
    this.#maxFrame = maxFrame
  }

  /** Yields what the frames hold that end in a chunk. Throws a FrameError. @param {Uint8Array} chunk */
  *push(chunk) {
    for (let at = 0; at < chunk.length; ) {
      if (this.#body === null) {
        this.#length = this.#length * 256 + chunk[at++]
        if (++this.#header < 4) continue
        if (this.#length < 1 || this.#length > this.#maxFrame) {
          throw new FrameError('length', `a frame of ${this.#length} bytes; 1 to ${this.#maxFrame} are allowed`)
        }
        this.#body = new Uint8Array(this.#length) // only now
        continue
      }
      const part = chunk.subarray(at, at + this.#length - this.#filled)
      this.#body.set(part, this.#filled)
      this.#filled += part.length
      at += part.length
      if (this.#filled < this.#length) continue
      const body = this.#body
      this.#header = this.#length = this.#filled = 0
      this.#body = null
      yield body
    }
  }

  /** Throws a FrameError if the stream ends here inside a frame. */
  end() {
    if (this.#header > 0) throw new FrameError('truncated', 'the stream ended inside a frame')
  }
}

// --- Calls of the library ---

// What the library has to settle. It ends the process, if it does so as a Worker's thread has just
// ended. A read that waits for the network is an exception: its stream goes with the thread, and it is
// never settled. So no other call is left waiting where that can be avoided: no closed(), and in a
// Worker no acceptUni() or acceptBi().
let calls = 0
/** Those to be closed first, at a Worker's end: a connect() would be settled long after. @type {Set<Endpoint>} */
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
  // For process.exit() and uncaught errors; terminate() asks nobody. Promises stand still in here.
  const node = /** @type {any} */ (globalThis).process
  const pause = (/** @type {number} */ ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
  node.once('exit', () => {
    if (calls === 0) return
    for (const endpoint of unsettled) endpoint.close()
    for (let n = 0; n < 400 && [...unsettled].some((endpoint) => !endpoint.isClosed()); n++) pause(10)
    pause(unsettled.size > 0 ? 500 : 50) // an error takes the library 100 ms to put into words
  })
}

/**
 * Closes an endpoint, which can take 3 s.
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

// --- Link ---

const MAX_REQUESTS = 4 // that are not answered yet: what a hub has to queue for a spoke is bounded
const WINDOW = 4 << 20 // bytes that may have come in and not been read: iroh's window of a stream, and room
const POLL = 20 // ms between looks whether a connection is closed: the library tells in no other way

/**
 * A request for topics. The answer is called where the hub's stands in the order of what it sends:
 * with null, a RefusedError, or what ended the link.
 * @typedef {object} Request
 * @property {'__subscribe' | '__unsubscribe'} type
 * @property {string[]} topics
 * @property {(error: Error | null) => void} answer
 */

/**
 * What a Link does with what comes.
 * @typedef {object} LinkOwner
 * @property {number} maxFrame
 * @property {number} handshakeTimeout
 * @property {number} writeTimeout
 * @property {(link: Link, most: number) => Uint8Array[]} take what is to be written next, once the link is up
 * @property {(link: Link, bytes: Uint8Array) => void} send writes behind what was published
 * @property {(envelope: Envelope, text: string) => void} event with the text that it is made of
 * @property {(error: RefusedError) => void} refused an event that was published
 * @property {() => Request | null} nextRequest what to ask for now
 */

/** One connection to a hub, with one stream, and all that is true of it alone. */
class Link {
  /** Resolves, and never rejects, once all that came has been worked through. @type {Promise<CloseError>} */
  ended
  /** Whether the hub has answered for all topics: events go both ways from then on. */
  up = false
  /** What the hub was asked for, and has not refused, by name. @type {Map<string, Topic>} */
  asked = new Map()
  /** Names of topics that the hub is to be asked for, or no more. @type {Set<string>} */
  changed = new Set()
  /** Requests for topics that are not answered. */
  asking = 0
  /** Who waits for the hub to have worked through all. @type {((error: Error | null) => void)[]} */
  flushes = []
  /** Of how many events somebody was told that they may be lost. */
  told = 0
  /** Whether the hub has ended its half of the stream, behind a whole frame. */
  whole = false

  #connection
  #stream
  #owner
  /** Calls of the library that are not settled. @type {Set<Promise<unknown>>} */
  #calls = new Set()
  /** Requests that go before the link is up. @type {Uint8Array[]} */
  #queue = []
  /** @type {Promise<void> | null} */
  #writing = null
  /** Requests that are not answered yet, by id. @type {Map<string, (error: Error | null) => void>} */
  #answers = new Map()
  #lastId = 0
  #isAsking = false // shortly
  #moved = performance.now() // when something last came or went
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watch
  #read = 0 // bytes
  #unread = { received: 0, read: 0, sent: 0, since: performance.now(), bytes: 0 }
  #finishing = false
  /** Why this side closed the connection, if it did. @type {CloseError | null} */
  #aborted = null
  /** @type {CloseError | null} */
  #end = null

  /**
   * @param {import('@number0/iroh').Connection} connection
   * @param {import('@number0/iroh').BiStream} stream
   * @param {LinkOwner} owner
   */
  constructor(connection, stream, owner) {
    this.#connection = connection
    this.#stream = { send: stream.send, recv: stream.recv }
    this.#owner = owner
    this.#refuseStreams()
    this.ended = this.#readLoop()
  }

  /**
   * A hub opens no streams. What it sends on one would be held: iroh grants it 200 of 1.25 MB each.
   * So the first one ends the connection. A Worker cannot wait for it: see #countUnread.
   */
  #refuseStreams() {
    this.#connection.setMaxConcurrentUniStreams(0n)
    this.#connection.setMaxConcurrentBiStreams(0n)
    if (!isMainThread) return
    for (const opened of [() => this.#connection.acceptUni(), () => this.#connection.acceptBi()]) {
      this.#call(/** @type {Promise<unknown>} */ (opened())).then(
        () => this.abort(new CloseError(CloseCode.protocol, 'a hub opens no streams')),
        () => {}, // the connection has ended
      )
    }
  }

  /**
   * Ends the connection where far more has come in than was read: it is on streams that a hub does not
   * open. What goes with our own traffic, and with time, is not counted.
   */
  #countUnread() {
    const { udpRxBytes: received, udpTxBytes: sent } = this.#connection.stats()
    const now = performance.now()
    const read = this.#read
    const last = this.#unread
    const explained = 1.25 * (read - last.read) + (sent - last.sent) / 4 + (now - last.since)
    const bytes = Math.max(0, last.bytes + received - last.received - explained)
    this.#unread = { received, read, sent, since: now, bytes }
    if (bytes > WINDOW) this.abort(new CloseError(CloseCode.protocol, `${Math.round(bytes)} bytes came on no stream of this spoke`))
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

  /** Resolves when the library has nothing more to settle, or at least soon. */
  async settled() {
    if (this.#calls.size > 0) await Promise.race([Promise.allSettled(this.#calls), sleep(1000)])
  }

  /** Says that there is something to be written. */
  write() {
    if (!this.#end && !this.#finishing) this.#writing ??= this.#writeLoop()
  }

  /** Lets events through. */
  begin() {
    this.up = true
    clearTimeout(this.#watch)
    this.write()
  }

  /** Says that there may be something to ask for. */
  ask() {
    if (this.#isAsking) return
    this.#isAsking = true
    queueMicrotask(() => this.#askNow()) // what comes in one go is asked for in one
  }

  #askNow() {
    this.#isAsking = false
    while (this.#answers.size < MAX_REQUESTS && !this.#finishing) {
      const request = this.#owner.nextRequest()
      if (!request) break
      this.#request(request)
    }
  }

  /**
   * Has somebody called when the hub has worked through all that was written before: with null, a
   * RefusedError, or what ended the link.
   * @param {(error: Error | null) => void} flushed
   */
  flush(flushed) {
    if (this.#end) return flushed(this.#end)
    this.flushes.push(flushed)
    this.ask()
  }

  /** @param {Request} request */
  #request({ type, topics, answer }) {
    const id = String(++this.#lastId)
    this.#answers.set(id, answer)
    const bytes = frame({ type, id, payload: { topics } }, MAX_FRAME)
    if (this.up) return this.#owner.send(this, bytes)
    this.#queue.push(bytes)
    this.write()
    this.#moved = performance.now()
    this.#watch ??= setTimeout(() => this.#watchAnswers(), this.#owner.handshakeTimeout)
  }

  /** Until the link is up, the limit runs while nothing moves. */
  #watchAnswers() {
    const { handshakeTimeout: limit } = this.#owner
    this.#watch = undefined
    if (this.up || this.#end) return
    const left = this.#moved + limit - performance.now()
    if (left <= 0) return this.abort(new CloseError(CloseCode.timeout, `nothing came for ${limit} ms, nor the answer`))
    this.#watch = setTimeout(() => this.#watchAnswers(), left)
  }

  /** Ends the stream when all is written, and waits until the hub has worked through it. */
  async finish() {
    this.#askNow()
    try {
      while (this.#writing) await this.#writing
      this.#finishing = true
      await this.#call(this.#stream.send.finish()).catch(() => {}) // of a failure, the end tells more
      const end = await this.#withinSilence(this.ended, "the hub's part in closing")
      if (end.code !== CloseCode.normal || !this.whole) throw end
    } finally {
      this.abort(new CloseError(CloseCode.normal, 'closed'))
    }
  }

  /**
   * Awaits something, as long as something moves.
   * @template T
   * @param {Promise<T>} promise
   * @param {string} what
   */
  async #withinSilence(promise, what) {
    const { writeTimeout: timeout } = this.#owner
    const since = performance.now()
    const done = promise.then((value) => ({ value }))
    for (;;) {
      const left = Math.max(since, this.#moved) + timeout - performance.now()
      /** @type {ReturnType<typeof setTimeout> | undefined} */
      let timer
      const late = new Promise((resolve) => (timer = setTimeout(resolve, Math.max(0, left))))
      const first = /** @type {{value: T} | undefined} */ (await Promise.race([done, late]))
      clearTimeout(timer)
      if (first) return first.value
      if (Math.max(since, this.#moved) + timeout > performance.now()) continue
      throw new CloseError(CloseCode.timeout, `${what} took over ${timeout} ms`)
    }
  }

  /** Closes the connection at once. @param {CloseError} error */
  abort(error) {
    if (this.#end || this.#aborted) return
    this.#aborted = error
    this.#connection.close(BigInt(error.code ?? 0), Array.from(encoder.encode(error.reason)))
  }

  async #readLoop() {
    // A Worker cannot wait for streams that a hub opens.
    const look = isMainThread ? undefined : setInterval(() => this.#countUnread(), 100)
    const end = await this.#readAll()
    clearInterval(look)
    clearTimeout(this.#watch)
    this.#end = end // from here on, nothing is queued
    for (const answer of this.#answers.values()) answer(end)
    // A hub that ends normally after the spoke has worked through all, and was to say no more.
    const isWell = this.#finishing && this.whole && end.code === CloseCode.normal
    for (const flushed of this.flushes) flushed(isWell ? null : end)
    this.#queue = []
    this.#answers.clear()
    this.flushes = []
    this.#connection.close(0n, []) // without effect where it is closed already
    return end
  }

  async #readAll() {
    const { maxFrame, writeTimeout: timeout } = this.#owner
    const frames = new FrameReader(Math.max(maxFrame, ANSWER))
    try {
      for (;;) {
        const chunk = await this.#call(this.#stream.recv.read(CHUNK))
        if (this.#aborted) return this.#aborted
        if (chunk.length === 0) break
        this.#moved = performance.now()
        this.#read += chunk.length
        const bytes = new Uint8Array(chunk.length)
        bytes.set(chunk)
        for (const body of frames.push(bytes)) this.#take(body)
      }
      frames.end()
      this.whole = true
      for (const since = performance.now(); performance.now() - since < timeout; await sleep(POLL)) {
        const words = this.#connection.closeReason()
        if (words !== null) return this.#aborted ?? closeError(words)
      }
      return new CloseError(CloseCode.timeout, `the hub's part in closing took over ${timeout} ms`)
    } catch (cause) {
      if (this.#aborted) return this.#aborted
      if (cause instanceof FrameError) {
        this.abort(new CloseError(CloseCode.protocol, cause.message, cause))
        return /** @type {CloseError} */ (/** @type {unknown} */ (this.#aborted))
      }
      if (cause instanceof CloseError) return cause
      const words = /** @type {Error} */ (cause).message
      return closeError(this.#connection.closeReason() ?? words, cause)
    }
  }

  /** @param {Uint8Array} body */
  #take(body) {
    const { envelope, text } = parse(body)
    const { type, id, payload } = envelope
    if (!type.startsWith('__')) {
      const { maxFrame } = this.#owner
      if (body.length > maxFrame) throw new FrameError('length', `an event of ${body.length} bytes; ${maxFrame} are allowed`)
      return this.#owner.event(envelope, text)
    }
    if (type !== '__ack' && type !== '__error') return // of a later version
    if (id !== '' && !this.#answers.has(id)) return // to what was not asked on this link
    const error = type === '__error' ? new RefusedError(payload) : null
    const answer = this.#answers.get(id)
    if (answer) {
      this.#answers.delete(id)
      answer(error)
      this.ask()
    } else if (error) {
      this.#owner.refused(error)
    }
  }

  async #writeLoop() {
    await null // what is published in one go is written in one
    try {
      for (let bytes = this.#next(); bytes.length > 0; bytes = this.#next()) {
        for (let at = 0; at < bytes.length; at += CHUNK) {
          const write = this.#call(this.#stream.send.writeAll(toArray(bytes.subarray(at, at + CHUNK))))
          await within(write, this.#owner.writeTimeout, 'a write')
          this.#moved = performance.now()
        }
      }
    } catch (error) {
      // If the connection is gone, the reader sees that.
      const isLate = error instanceof CloseError
      if (!isLate) await within(this.ended, this.#owner.writeTimeout, 'the end').catch(() => {})
      this.abort(isLate ? error : new CloseError(null, 'cannot write', error))
    } finally {
      this.#writing = null
    }
  }

  /** What is to be written next. */
  #next() {
    const parts = [...this.#queue.splice(0), ...(this.up && !this.#end ? this.#owner.take(this, CHUNK) : [])]
    if (parts.length === 1) return parts[0]
    const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
    let at = 0
    for (const part of parts) {
      bytes.set(part, at)
      at += part.length
    }
    return bytes
  }
}

/** The library takes no typed arrays; Array.from is ten times slower. @param {Uint8Array} bytes */
function toArray(bytes) {
  const array = new Array(bytes.length)
  for (let i = 0; i < bytes.length; i++) array[i] = bytes[i]
  return array
}

// --- Loop ---

const EVENT_COST = 96 // bytes of an event that waits, besides its text
const nothing = { text: '', size: 0 }

/** A Subscription. */
class Loop {
  topics
  #limit
  #left
  #stop = new AbortController()
  /** Events wait as text, which takes less memory than what it is decoded to. @type {{text: string, size: number}[]} */
  #queue = []
  #next = 0 // the first in the queue that is not taken
  #bytes = 0 // that wait
  /** @type {{resolve: (result: IteratorResult<Envelope>) => void, reject: (error: Error) => void}[]} */
  #takers = []
  /** @type {Envelope | null} */
  #last = null
  /** @type {Error | null} */
  #error = null
  #done = false

  /**
   * @param {string[]} topics
   * @param {number} limit bytes that may wait
   * @param {() => void} left called at the end
   */
  constructor(topics, limit, left) {
    this.topics = Object.freeze([...new Set(topics)])
    this.#limit = limit
    this.#left = left
  }

  /** Aborted when the loop ends. */
  get signal() {
    return this.#stop.signal
  }

  /**
   * @param {Envelope} envelope
   * @param {string} text what it was made of
   */
  push(envelope, text) {
    if (this.#last === envelope) return // by its topic, and by a pattern
    this.#last = envelope
    const taker = this.#takers.shift()
    if (taker) return taker.resolve({ value: envelope, done: false })
    const size = text.length * (/[^\0-\xff]/.test(text) ? 2 : 1) + EVENT_COST
    if (this.#queue.length > 0 && this.#bytes + size > this.#limit) {
      return this.end(new CloseError(CloseCode.tooSlow, `${this.#bytes} bytes are waiting, and ${this.#limit} may`))
    }
    this.#queue.push({ text, size })
    this.#bytes += size
  }

  /** Ends the loop behind what is in the queue. @param {Error | null} error */
  end(error) {
    if (this.#done) return
    this.#done = true
    this.#error = error
    this.#last = null
    this.#stop.abort()
    for (const { resolve, reject } of this.#takers.splice(0)) {
      if (this.#error) reject(this.#error)
      else resolve({ value: undefined, done: true })
      this.#error = null // the first one gets it, as from a generator
    }
    this.#left()
  }

  /** Ends the loop, and drops what is in the queue. */
  close() {
    this.#queue = []
    this.#next = this.#bytes = 0
    this.end(null)
    this.#error = null
  }

  /** @returns {Promise<IteratorResult<Envelope>>} */
  next() {
    if (this.#next < this.#queue.length) {
      const { text, size } = this.#queue[this.#next]
      this.#queue[this.#next++] = nothing // else it would be held until the next splice
      if (this.#next === this.#queue.length || this.#next === 1024) {
        this.#queue.splice(0, this.#next)
        this.#next = 0
      }
      this.#bytes -= size
      return Promise.resolve({ value: envelopeOf(JSON.parse(text)), done: false })
    }
    if (!this.#done) return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }))
    const error = this.#error
    this.#error = null
    return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true })
  }

  /** @returns {Promise<IteratorResult<Envelope>>} */
  return() {
    this.close()
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator]() {
    return this
  }
}

// --- Spoke ---

const MAX_DIALS = 4 // attempts to connect that may wait for the network at once
const MAX_BATCH = 64 // topics of a request
const MAX_BATCH_LENGTH = 4 << 10 // characters in all its topics, of up to 4 bytes each

const lifecycle = ['__state', '__disconnect', '__reconnect', '__error']

const OUTBOX = 256 << 10 // bytes that publish() may be ahead of the network

/** What a spoke keeps of a topic that is listened to. */
class Topic {
  /** @type {{listener: unknown, capture: boolean, handler: any, forget: () => void}[]} */
  entries = []
  /** Whether the hub has acknowledged it on this connection. Before, an event may have a gap behind it. */
  acknowledged = false
  answered = false
  /** Whether to ask for it alone: a hub refused it and others, without a name. */
  isAlone = false
  /** @type {(error: Error | null) => void} */
  answer = () => {}
  /** Resolves with the hub's answer. @type {Promise<void>} */
  promise = this.renew()

  /** Awaits another answer. */
  renew() {
    this.answered = false
    const promise = new Promise((resolve, reject) => {
      this.answer = (error) => {
        this.answered = true
        if (error) reject(error)
        else resolve(undefined)
      }
    })
    promise.catch(() => {}) // who does not ask need not handle it
    return (this.promise = promise)
  }
}

/** A publish() that waits for room. @typedef {{bytes: Uint8Array, resolve: () => void, reject: (error: unknown) => void}} Waiting */

/**
 * A connection to a hub that comes back by itself. As an event target:
 *
 * - `addEventListener(topic, listener)` gets what the hub passes on, with the topic as the event's type
 *   and the envelope as its detail. A topic's first listener subscribes, the last one to go unsubscribes.
 * - Under a pattern `T:*`, the event's type is the pattern, as an event target calls a listener for the
 *   type that it was added for and no other; `topicOf(event.detail)` is the topic. An event that
 *   has listeners under its topic and under the pattern comes once from the hub and once to each.
 * - `dispatchEvent(event)` publishes to the hub, which never sends an event back to where it came
 *   from: listeners of this spoke are not called.
 * - `__state`, `__disconnect`, `__reconnect` and `__error` are no topics but about the connection: how the
 *   spoke stands has changed; it was lost; it is back, and the hub has answered for every topic; the
 *   hub refused a topic or what was published.
 *
 * Delivery is at most once, in the order published, with no gap between `__reconnect` and
 * `__disconnect`. A spoke that is not closed keeps the process alive.
 */
export class Spoke extends EventTarget {
  /** The NodeID of this spoke. */
  node
  /** The NodeID of the hub. */
  hub
  /** Resolves at the spoke's end: with null after close(), else with what ended it, or close() rejects with. */
  closed

  #endpoint
  #address
  #options
  /** @type {Map<string, Topic>} */
  #topics = new Map()
  /** @type {Set<Loop>} */
  #loops = new Set()
  #text = '' // of the event that is being given out
  /** Attempts to connect that the library has not settled. @type {Set<Promise<unknown>>} */
  #dials = new Set()
  /** The one that is up. @type {Link | null} */
  #link = null
  /** The one that is to be. @type {Link | null} */
  #dialled = null
  /** Why there is no link. @type {Error | null} */
  #lost = null
  /** Who waits for a link, or the end. @type {Set<() => void>} */
  #hoping = new Set()
  /** @type {State} */
  #state = Object.freeze({ name: 'connected', attempt: 0, error: null })

  /** What is to be written: a link's requests, and events, which are for any. @type {{link: Link | null, bytes: Uint8Array}[]} */
  #outbox = []
  #unsent = 0 // bytes in it
  /** In order. @type {Waiting[]} */
  #waiting = []
  // How many events were published, given to a link, and surely taken by the hub or told to be lost.
  #published = 0
  #written = 0
  #taken = 0
  /** The first thing that went wrong with an event, since a flush() has told. @type {Error | null} */
  #trouble = null
  /** The first lost connection, likewise. @type {Error | null} */
  #loss = null

  #isClosing = false
  /** @type {Promise<void> | null} */
  #closing = null
  /** The end for good, with what led to it. @type {{error: Error | null} | null} */
  #over = null
  /** @type {(error: Error | null) => void} */
  #resolveClosed = () => {}
  #endPause = () => {}

  /**
   * Connects to the hub at peer, a ticket or NODEID@HOST:PORT, and resolves once the hub has taken
   * the spoke in. Rejects with a CloseError if it has not, or has not answered in time; with a TypeError for
   * what is no peer or no option; and with what the signal was aborted with.
   * @param {string} peer
   * @param {SpokeOptions} [options]
   */
  static async connect(peer, options = {}) {
    checkOptions(options)
    const { signal, handshakeTimeout: timeout = DEFAULTS.handshakeTimeout } = options
    const address = parsePeer(peer, options)
    signal?.throwIfAborted()
    const endpoint = options.endpoint ?? (await bind(options, timeout))
    const spoke = new Spoke(endpoint, address, options)
    const connected = spoke.#dial()
    /** @type {() => void} */
    let abort = () => {}
    /** @type {Promise<never>} */
    const aborted = new Promise((_, reject) => (abort = () => reject(signal?.reason)))
    signal?.addEventListener('abort', abort)
    if (signal?.aborted) abort() // while it was binding
    try {
      spoke.#keep(await Promise.race([connected, aborted]))
    } catch (error) {
      connected.catch(() => {})
      spoke.#isClosing = true
      spoke.#dialled?.abort(new CloseError(CloseCode.normal, 'given up'))
      if (!options.endpoint) release(endpoint).catch(() => {}) // not awaited: it may take 3 s
      throw error
    } finally {
      signal?.removeEventListener('abort', abort)
    }
    return spoke
  }

  /**
   * For connect() alone.
   * @private
   * @param {Endpoint} endpoint
   * @param {EndpointAddr} address
   * @param {SpokeOptions} options
   */
  constructor(endpoint, address, options) {
    super()
    this.#endpoint = endpoint
    this.#address = address
    const given = Object.entries(options).filter(([, value]) => value !== undefined)
    this.#options = { ...DEFAULTS, endpoint: options.endpoint, ...Object.fromEntries(given) }
    this.node = endpoint.id().toString()
    this.hub = address.id().toString()
    /** @type {Promise<Error | null>} */
    const closed = new Promise((resolve) => (this.#resolveClosed = resolve))
    this.closed = closed
  }

  /** How the spoke stands. `__state` tells of each change. */
  get state() {
    return this.#state
  }

  /**
   * @template {string} T
   * @param {T} type a topic, a pattern, `__state`, `__disconnect`, `__reconnect` or `__error`
   * @param {Listener<T> | null} listener
   * @param {ListenerOptions | boolean} [options]
   */
  addEventListener(type, listener, options) {
    /** @type {any} */
    const native = listener
    if (lifecycle.includes(type)) return super.addEventListener(type, native, options)
    if (!isTopic(type)) throw new TypeError(`not a topic: ${shown(type)}`)
    const { capture = false, once = false, signal, passive } =
      typeof options === 'object' ? (options ?? {}) : { capture: options }
    if (!listener || signal?.aborted) return

    let topic = this.#topics.get(type)
    const same = topic?.entries.some((e) => e.listener === listener && e.capture === capture)
    if (same) return // as in any event target
    const onceOnly = (/** @type {any} */ event) => {
      this.#remove(type, entry)
      if (typeof listener === 'function') listener.call(this, event)
      else listener.handleEvent(event)
    }
    const entry = {
      listener,
      capture,
      handler: once ? onceOnly : native,
      forget: () => signal?.removeEventListener('abort', aborted),
    }
    const aborted = () => this.#remove(type, entry)
    signal?.addEventListener('abort', aborted, { once: true })
    super.addEventListener(type, entry.handler, { capture, passive })

    if (topic) return void topic.entries.push(entry)
    topic = new Topic()
    topic.entries.push(entry)
    this.#topics.set(type, topic)
    if (this.#link) this.#ask(type)
    else if (this.#over) topic.answer(this.#lost)
  }

  /**
   * @template {string} T
   * @param {T} type
   * @param {Listener<T> | null} listener
   * @param {{capture?: boolean} | boolean} [options]
   */
  removeEventListener(type, listener, options) {
    /** @type {any} */
    const native = listener
    if (lifecycle.includes(type)) return super.removeEventListener(type, native, options)
    const capture = Boolean(typeof options === 'object' ? options?.capture : options)
    const entry = this.#topics.get(type)?.entries.find((e) => e.listener === listener && e.capture === capture)
    if (entry) this.#remove(type, entry)
  }

  /**
   * Publishes the event's detail, an envelope whose topic is the event's type. It returns at once, as
   * publish() does while there is room. Throws a TypeError for one that is not allowed, what ended
   * the spoke, and an error where over maxOutbox waits to be written: publish() waits instead.
   * @param {Detailed<Publication>} event
   */
  dispatchEvent({ type, detail }) {
    if (detail === null || typeof detail !== 'object' || topicOf(detail) !== type) {
      throw new TypeError(`the detail is no envelope with the topic ${JSON.stringify(type)}`)
    }
    const bytes = encode(detail, this.#options.maxFrame)
    this.#checkOpen()
    const isFull = this.#unsent > 0 && this.#unsent + bytes.length > this.#options.maxOutbox
    if (isFull || this.#waiting.length > 0) throw new Error(`${this.#unsent} bytes are waiting to be written`)
    this.#publish(bytes)
    return true
  }

  /**
   * Publishes an event, and resolves when it is queued for writing; flush() tells whether the hub has
   * it. It waits while over 256 KiB are queued, and so while the connection is lost. Rejects with a
   * TypeError for an event that is not allowed, what ended the spoke, or what the signal was aborted
   * with: then nothing is published.
   * @param {Publication} event
   * @param {Cancellable} [options]
   * @returns {Promise<void>}
   */
  async publish(event, options) {
    const bytes = encode(event, this.#options.maxFrame)
    const signal = checkSignal(options)
    this.#checkOpen()
    if (this.#waiting.length === 0 && this.#unsent < OUTBOX) return this.#publish(bytes)
    /** @type {Waiting} */
    let one
    /** @type {Promise<void>} */
    const queued = new Promise((resolve, reject) => {
      one = { bytes, resolve, reject }
      this.#waiting.push(one)
    })
    try {
      await unlessAborted(queued, signal)
    } catch (error) {
      this.#waiting = this.#waiting.filter((other) => other !== one)
      throw error
    }
  }

  /**
   * Waits until the hub has worked through all that was published before, and while the connection is
   * lost. Rejects with the first thing that went wrong with an event since the last flush(): the hub's
   * refusal, or a CloseError for a lost connection, as it is not known then what the hub got; with
   * what ended the spoke; or with what the signal was aborted with.
   * @param {Cancellable} [options]
   * @returns {Promise<void>}
   */
  async flush(options) {
    const signal = checkSignal(options)
    while (!this.#link) {
      this.#checkOpen()
      let hope = () => {}
      try {
        await unlessAborted(new Promise((resolve) => this.#hoping.add((hope = () => resolve(undefined)))), signal)
      } finally {
        this.#hoping.delete(hope)
      }
    }
    this.#checkOpen()
    const link = this.#link
    const published = this.#published
    /** @type {Promise<void>} */
    const flushed = new Promise((resolve, reject) => {
      link.flush((error) => {
        if (!error) return resolve()
        if (!signal?.aborted) link.told = Math.max(link.told, published)
        reject(error)
      })
    })
    await unlessAborted(flushed, signal)
    const trouble = this.#trouble
    this.#trouble = this.#loss = null
    if (trouble) throw trouble
  }

  /**
   * Resolves when the hub has acknowledged a topic that is listened to: what it passes on from then on
   * comes. While the connection is lost, it waits. Rejects with the hub's refusal.
   * @param {string} topic
   * @param {Cancellable} [options]
   * @returns {Promise<void>}
   */
  async subscribed(topic, options) {
    const signal = checkSignal(options)
    const state = this.#topics.get(topic)
    if (!state) throw new Error(`nobody listens to ${JSON.stringify(topic)}`)
    await unlessAborted(state.promise, signal)
  }

  /** As subscribed(), for every topic that is listened to now. @param {Cancellable} [options] */
  async ready(options) {
    const signal = checkSignal(options)
    await unlessAborted(Promise.all([...this.#topics.values()].map(({ promise }) => promise)), signal)
  }

  /**
   * Subscribes to topics, and resolves when the hub has acknowledged all of them: what it passes on from
   * then on comes. While the connection is lost, it waits. Rejects with the hub's refusal, what ended the
   * spoke, or what the signal was aborted with: then nothing stays subscribed. Later, the signal has no
   * effect.
   * @param {[...topics: string[], options: Cancellable] | string[]} topics
   * @returns {Promise<Subscription>}
   */
  async subscribe(...topics) {
    const { names, signal } = split(topics)
    this.#checkOpen()
    const loop = this.#subscribe(names)
    try {
      await unlessAborted(Promise.all(loop.topics.map((name) => this.#topics.get(name)?.promise)), signal)
    } catch (error) {
      loop.close()
      throw error
    }
    return loop
  }

  /**
   * As subscribe(), at once: for a loop that need not know when the hub has acknowledged. The hub's
   * refusal comes in the loop. A signal ends the loop, which throws what it was aborted with.
   * @param {[...topics: string[], options: Cancellable] | string[]} topics
   * @returns {Subscription}
   */
  events(...topics) {
    const { names, signal } = split(topics)
    const loop = this.#subscribe(names)
    const abort = () => loop.end(signal?.reason)
    signal?.addEventListener('abort', abort)
    loop.signal.addEventListener('abort', () => signal?.removeEventListener('abort', abort))
    return loop
  }

  /** @param {string[]} names */
  #subscribe(names) {
    const loop = new Loop(names, this.#options.maxQueue, () => this.#loops.delete(loop))
    if (this.#over) loop.end(this.#over.error)
    else this.#loops.add(loop)
    for (const name of loop.topics) {
      const listener = (/** @type {Detailed<Envelope>} */ event) => loop.push(event.detail, this.#text)
      this.addEventListener(name, /** @type {Listener<string>} */ (listener), { signal: loop.signal })
    }
    return loop
  }

  /**
   * Ends the spoke: writes what was published, and waits until the hub has worked through it and
   * sent what it had. Rejects if that failed; if there is no connection, and events are waiting to
   * be written; if a connection was lost before with what may have been on its way, and no flush()
   * has told; or with what had ended the spoke. Later calls return what the first did, and `closed`
   * resolves with what it rejects with.
   */
  close() {
    return (this.#closing ??= this.#close())
  }

  async #close() {
    /** @type {Error | null} */
    let error = null
    if (!this.#over) {
      this.#isClosing = true
      this.#endPause()
      this.#dialled?.abort(new CloseError(CloseCode.normal, 'closed'))
      const unsent = this.#published - this.#written
      try {
        if (this.#link) await this.#link.finish()
        else if (unsent > 0) throw new CloseError(null, `closed without a connection, and ${unsent} events were waiting to be written`)
        this.#taken = this.#written
      } catch (cause) {
        error = /** @type {Error} */ (cause)
      }
      await this.#end(error)
    }
    error = await this.closed
    if (error) throw error
  }

  /** @param {Error | null} error what ended the spoke; null: close() did, and all is well */
  async #end(error) {
    if (this.#over) return
    const link = this.#link
    const why = error ?? new CloseError(CloseCode.normal, 'the spoke is closed')
    this.#over = { error }
    this.#lose(why)
    for (const topic of this.#topics.values()) topic.answer(why)
    for (const loop of this.#loops) loop.end(error)
    for (const { reject } of this.#waiting.splice(0)) reject(why)
    for (const hope of this.#hoping) hope()
    this.#outbox = []
    this.#setState('closed', 0, error)
    await link?.settled()
    if (!this.#options.endpoint) await release(this.#endpoint)
    this.#resolveClosed(error ?? this.#loss)
  }

  #checkOpen() {
    if (this.#over) throw this.#lost
    if (this.#isClosing) throw new CloseError(CloseCode.normal, 'the spoke is closed')
  }

  /**
   * @param {State['name']} name
   * @param {number} attempt
   * @param {Error | null} error
   */
  #setState(name, attempt, error) {
    this.#state = Object.freeze({ name, attempt, error })
    this.#tell('__state', this.#state)
  }

  // --- what is to be written

  /** @param {Uint8Array} bytes */
  #publish(bytes) {
    this.#published++
    this.#send(null, bytes)
  }

  /**
   * @param {Link | null} link
   * @param {Uint8Array} bytes
   */
  #send(link, bytes) {
    this.#outbox.push({ link, bytes })
    this.#unsent += bytes.length
    this.#link?.write()
  }

  /**
   * Takes what a link is to write next.
   * @param {Link} link
   * @param {number} most
   */
  #take(link, most) {
    /** @type {Uint8Array[]} */
    const parts = []
    let count = 0
    for (let size = 0; count < this.#outbox.length && size < most; count++) {
      const { link: owner, bytes } = this.#outbox[count]
      this.#unsent -= bytes.length
      if (!owner) this.#written++
      if (owner && owner !== link) continue // of one that is gone
      parts.push(bytes)
      size += bytes.length
    }
    this.#outbox.splice(0, count)
    while (this.#unsent < OUTBOX && this.#waiting.length > 0) {
      const { bytes, resolve } = /** @type {Waiting} */ (this.#waiting.shift())
      this.#publish(bytes)
      resolve()
    }
    return parts
  }

  /** Sees to it that there is a link. @param {Link} link */
  async #keep(link) {
    const { reconnect, minBackoff, maxBackoff } = this.#options
    let pause = minBackoff
    for (;;) {
      const since = performance.now()
      const error = await link.ended
      if (!this.#isClosing || error.code !== CloseCode.normal || !link.whole) this.#account(link, error)
      if (this.#isClosing) return
      // A hub that took this spoke in and then had too many has a newer one with this NodeID.
      const reconnecting = reconnect && !isFinal(error) && error.code !== CloseCode.tooMany
      this.#lose(error)
      if (reconnecting) this.#setState('reconnecting', 1, error)
      this.#tell('__disconnect', { error, reconnecting })
      if (!reconnecting) return this.#end(error)
      if (performance.now() - since >= maxBackoff) pause = minBackoff // else: one that never holds is not to hammer

      for (;;) {
        await this.#pause(pause * (1 - Math.random() / 2))
        pause = Math.min(2 * pause, Math.max(minBackoff, maxBackoff))
        if (this.#isClosing) return
        try {
          link = await this.#dial()
          break
        } catch (cause) {
          const failed = /** @type {Error} */ (cause)
          if (this.#isClosing) return
          this.#lose(failed)
          if (isFinal(failed)) {
            this.#tell('__disconnect', { error: failed, reconnecting: false })
            return this.#end(failed)
          }
          if (failed instanceof CloseError && failed.code === CloseCode.tooMany) pause = Math.max(pause, maxBackoff) // it is full
          this.#setState('reconnecting', this.#state.attempt + 1, failed)
        }
      }
    }
  }

  /**
   * Notes what may be lost with a link.
   * @param {Link} link
   * @param {Error} error
   */
  #account(link, error) {
    if (this.#written > Math.max(this.#taken, link.told)) {
      this.#trouble ??= error
      this.#loss ??= error
    }
    this.#taken = this.#written
  }

  /** @param {number} ms */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#endPause = () => {
        clearTimeout(timer)
        resolve(undefined)
      }
      if (this.#isClosing) this.#endPause()
    })
  }

  /** @param {Error} error */
  #lose(error) {
    this.#link = null
    this.#lost = error
    for (const [name, topic] of this.#topics) {
      topic.acknowledged = false
      if (topic.answered) topic.renew()
      if (topic.entries.length === 0) this.#topics.delete(name)
    }
  }

  /** Makes a link. It resolves when the hub has answered for all topics. */
  async #dial() {
    const { handshakeTimeout, writeTimeout, maxFrame } = this.#options
    const { connection, stream } = await this.#reach()
    /** @type {Link} */
    const link = new Link(connection, stream, {
      maxFrame,
      handshakeTimeout,
      writeTimeout,
      event: (envelope, text) => this.#receive(envelope, text),
      refused: (error) => {
        this.#trouble ??= error
        this.#tell('__error', error)
      },
      nextRequest: () => this.#nextRequest(link),
      take: (link, most) => this.#take(link, most),
      send: (link, bytes) => this.#send(link, bytes),
    })
    this.#dialled = link
    for (const name of this.#topics.keys()) link.changed.add(name)
    try {
      await new Promise((resolve, reject) => {
        // The answer to a request without topics is also how a spoke that has none learns that it was
        // taken in. Topics may be asked for once more, where one beside them was refused. The link is
        // up at once with the last answer: what comes behind it is to be given out.
        const answered = (/** @type {Error | null} */ error) => {
          if (error) return reject(error)
          if (link.changed.size > 0 || link.asking > 0) return link.flush(answered)
          if (this.#isClosing) return reject(new CloseError(CloseCode.normal, 'given up'))
          this.#bringUp(link)
          resolve(undefined)
        }
        link.flush(answered)
      })
      return link
    } catch (error) {
      link.abort(new CloseError(CloseCode.normal, 'given up'))
      throw error
    } finally {
      this.#dialled = null
    }
  }

  /** @param {Link} link */
  #bringUp(link) {
    const { name, attempt } = this.#state
    this.#link = link
    link.begin()
    for (const hope of this.#hoping) hope()
    if (name !== 'reconnecting') return
    this.#setState('connected', 0, null)
    this.#tell('__reconnect', { attempts: attempt })
  }

  /** Makes a connection with a stream. */
  async #reach() {
    const { alpn, handshakeTimeout: timeout } = this.#options
    // One that the hub answers late is closed then. Until then it is one of few.
    if (this.#dials.size >= MAX_DIALS) await within(Promise.race(this.#dials), timeout, 'connecting')
    let isGivenUp = false
    /** @type {import('@number0/iroh').Connection | undefined} */
    let connection
    const dial = (async () => {
      try {
        connection = await call(this.#endpoint.connect(this.#address, Array.from(encoder.encode(alpn))))
      } catch (cause) {
        throw closeError(/** @type {Error} */ (cause).message, cause)
      }
      if (isGivenUp || this.#isClosing) {
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
    if (!this.#options.endpoint) unsettled.add(this.#endpoint)
    settled.then(() => {
      this.#dials.delete(settled)
      if (this.#dials.size === 0 && !this.#isClosing) unsettled.delete(this.#endpoint)
    })
    try {
      const reached = await within(dial, timeout, 'connecting')
      if (this.#isClosing) throw new CloseError(CloseCode.normal, 'given up')
      return reached
    } catch (error) {
      isGivenUp = true
      connection?.close(0n, [])
      throw error
    }
  }

  /** Asks the hub for a topic, or no more. @param {string} name */
  #ask(name) {
    const link = this.#link ?? this.#dialled
    link?.changed.add(name)
    link?.ask()
  }

  /**
   * What to ask for now: as many topics as go in a request, or whether all was worked through.
   * @param {Link} link
   * @returns {Request | null}
   */
  #nextRequest(link) {
    /** @type {Request['type'] | null} */
    let type = null
    /** @type {Map<string, Topic | undefined>} */
    const batch = new Map()
    let size = 0
    for (const name of link.changed) {
      const topic = this.#topics.get(name)
      const asked = link.asked.get(name)
      if (topic !== asked) {
        const change = topic ? '__subscribe' : '__unsubscribe'
        type ??= change
        size += name.length
        const isAlone = topic?.isAlone && batch.size > 0
        if (isAlone || change !== type || batch.size >= MAX_BATCH || (batch.size > 0 && size > MAX_BATCH_LENGTH)) break
        batch.set(name, topic)
      }
      link.changed.delete(name)
      if (topic?.isAlone && batch.size > 0) break
    }
    if (type) return { type, topics: [...batch.keys()], answer: this.#asked(link, batch) }
    if (link.flushes.length === 0) return null
    const flushes = link.flushes.splice(0)
    const published = this.#published
    return {
      type: '__subscribe',
      topics: [],
      answer: (error) => {
        if (!error && link.up) this.#taken = Math.max(this.#taken, published)
        for (const flushed of flushes) flushed(error)
      },
    }
  }

  /**
   * Notes that topics are asked for, and returns what takes the answer.
   * @param {Link} link
   * @param {Map<string, Topic | undefined>} batch
   * @returns {Request['answer']}
   */
  #asked(link, batch) {
    for (const [name, topic] of batch) {
      if (topic) link.asked.set(name, topic)
      else link.asked.delete(name)
    }
    link.asking++
    return (error) => {
      link.asking--
      if ((this.#link ?? this.#dialled) !== link || (error && !(error instanceof RefusedError))) return // its end, of which #keep hears
      // Nothing of a request is carried out where one topic is refused: the others are asked for again.
      const isOne = batch.size === 1
      const isNamed = error && batch.has(error.topic)
      for (const [name, topic] of batch) {
        if (!topic) continue
        const isRefused = error && (isOne || error.topic === name)
        if (error && link.asked.get(name) === topic) link.asked.delete(name)
        if (this.#topics.get(name) !== topic) {
          if (this.#topics.has(name)) link.changed.add(name)
        } else if (!error) {
          topic.acknowledged = true
          topic.answer(null)
        } else if (isRefused) {
          topic.answer(error)
          for (const loop of this.#loops) if (loop.topics.includes(name)) loop.end(error)
          this.#tell('__error', error)
        } else {
          if (!isNamed) topic.isAlone = true
          link.changed.add(name)
        }
      }
      link.ask()
    }
  }

  /**
   * @param {string} name
   * @param {Topic['entries'][0]} entry
   */
  #remove(name, entry) {
    const topic = this.#topics.get(name)
    const at = topic ? topic.entries.indexOf(entry) : -1
    if (!topic || at < 0) return
    topic.entries.splice(at, 1)
    entry.forget()
    super.removeEventListener(name, entry.handler, entry.capture)
    if (topic.entries.length > 0) return
    // Not at once: a listener that is put in its place, or back, makes no gap.
    queueMicrotask(() => {
      if (topic.entries.length > 0 || this.#topics.get(name) !== topic) return
      this.#topics.delete(name)
      topic.answer(new Error(`nobody listens to ${JSON.stringify(name)} any more`))
      this.#ask(name)
    })
  }

  /**
   * @param {Envelope} envelope
   * @param {string} text
   */
  #receive(envelope, text) {
    if (!this.#link?.up) return // what comes before may have a gap behind it
    this.#text = text
    const topic = topicOf(envelope)
    const pattern = patternOf(topic)
    for (const name of topic === pattern ? [topic] : [topic, pattern]) {
      if (this.#topics.get(name)?.acknowledged) this.#tell(name, envelope)
    }
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #tell(type, detail) {
    super.dispatchEvent(new CustomEvent(type, { detail }))
  }
}

/** Whether another attempt would end in the same way. @param {Error} error */
function isFinal(error) {
  const { protocol, notAdmitted } = CloseCode
  return error instanceof CloseError && (error.code === protocol || error.code === notAdmitted)
}

/**
 * Takes the options from behind topics, and checks both.
 * @param {unknown[]} topics
 * @returns {{names: string[], signal: AbortSignal | undefined}}
 */
function split(topics) {
  const last = topics.at(-1)
  const hasOptions = typeof last === 'object' && last !== null && !Array.isArray(last)
  const names = hasOptions ? topics.slice(0, -1) : topics
  const wrong = names.findIndex((name) => !isTopic(/** @type {string} */ (name)))
  if (wrong >= 0 || names.length === 0) throw new TypeError(`not a topic: ${shown(names[wrong])}`)
  return { names: /** @type {string[]} */ (names), signal: hasOptions ? checkSignal(last) : undefined }
}

// --- Options ---

const DEFAULTS = {
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

const LONGEST = 2 ** 31 - 1 // ms that a timer takes

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
  maxFrame: number(ANSWER, 2 ** 30),
  maxQueue: number(1, Number.MAX_SAFE_INTEGER),
  maxOutbox: number(0, Number.MAX_SAFE_INTEGER),
}

/** @param {unknown} options */
function checkOptions(options) {
  if (options === null || typeof options !== 'object') throw new TypeError(`options are an object, not ${kindOf(options)}`)
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(optionKinds, name)) throw new TypeError(`there is no option ${JSON.stringify(name)}`)
    const [isRight, words] = optionKinds[/** @type {keyof SpokeOptions} */ (name)]
    if (value !== undefined && !isRight(value)) {
      const shown = name === 'secretKey' ? '' : typeof value === 'number' ? ` ${value}` : ` ${kindOf(value)}`
      throw new TypeError(`the option ${name} is ${words}; this is none${shown && `:${shown}`}`)
    }
  }
}

/**
 * @param {string} peer
 * @param {SpokeOptions} options
 */
function parsePeer(peer, { endpoint, relays }) {
  if (typeof peer !== 'string') throw new TypeError(`a peer is a string, not ${kindOf(peer)}`)
  const no = (/** @type {string} */ why, /** @type {unknown} */ cause) => {
    const shown = peer.length > 300 ? `${peer.slice(0, 300)}…` : peer
    return new TypeError(`neither a ticket nor NODEID@HOST:PORT: ${JSON.stringify(shown)}: ${why}`, { cause })
  }
  if (/\s/.test(peer)) throw no('it has white space in it', undefined)
  const at = peer.indexOf('@')
  const node = (at < 0 ? peer : peer.slice(0, at)).toLowerCase()
  const isNode = /^[0-9a-f]{64}$/.test(node)
  if (at >= 0 && !isNode) throw no('a NodeID has 64 hex digits', undefined)
  try {
    if (!isNode) return EndpointTicket.fromString(peer).endpointAddr()
  } catch (cause) {
    throw no('no ticket', cause)
  }
  if (at < 0 && relays !== 'n0' && !endpoint) throw no("without an address it is found with relays: 'n0' alone", undefined)
  const hosts = at < 0 ? [] : peer.slice(at + 1).split(',')
  for (const host of hosts) {
    const [, ip, port] = /^(.+):([0-9]{1,5})$/.exec(host) ?? []
    if (port === undefined || !isAddress(ip)) throw no(`${JSON.stringify(host)} is not HOST:PORT, by numbers`, undefined)
    if (Number(port) < 1 || Number(port) > 65535) throw no(`a port is 1 to 65535, not ${port}`, undefined)
  }
  try {
    return new EndpointAddr(EndpointId.fromString(node), null, hosts)
  } catch (cause) {
    throw no('no such NodeID, or no such address', cause)
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
    if (bytes.length !== 32) throw new TypeError('the option secretKey is a Uint8Array of 32 bytes, or 64 hex digits')
    builder.secretKey(Array.from(bytes))
  }
  if (bindAddr) {
    try {
      builder.bindAddr(bindAddr)
    } catch (cause) {
      throw new TypeError(`the option bindAddr is HOST:PORT, by numbers, not ${JSON.stringify(bindAddr)}`, { cause })
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
