/**
 * A spoke of an irohub hub: publish and subscribe over iroh, as an event target. It speaks
 * alkpubsub/1. Copy this file into your application, with spoke.d.mts if that is TypeScript; it
 * needs Node 20.3 or later and the package @number0/iroh.
 *
 * From top to bottom: topics, errors, frames, Link (one connection), Loop (events as an
 * async iterator), Spoke (what an application uses).
 */
import { Endpoint, EndpointAddr, EndpointId, EndpointTicket, RelayMode } from '@number0/iroh'

/**
 * An event as it came from the hub.
 * @typedef {object} Envelope
 * @property {string} type
 * @property {string} id `''` where the event has none
 * @property {unknown} payload `undefined` where the event has none. It is JSON.parse's, so a number
 *   that a double cannot hold is rounded, and the last of a repeated member counts.
 * @property {string} [from] the NodeID of the spoke that published it, which the hub vouches for;
 *   without it, the event is the hub's own
 */

/**
 * An event to publish. The topic is `type`, or `type:id` where there is an `id`; `payload` is what
 * JSON.stringify takes.
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
 * What a listener gets: for the three names that are no topics an event about the connection, for
 * a topic an envelope.
 * @template {string} T
 * @typedef {T extends '__disconnect' ? CustomEvent<Disconnect>
 *   : T extends '__reconnect' ? CustomEvent<Reconnect>
 *   : T extends '__error' ? CustomEvent<RefusedError>
 *   : CustomEvent<Envelope>} SpokeEvent
 */

/**
 * @template {string} T
 * @typedef {((event: SpokeEvent<T>) => void) | {handleEvent(event: SpokeEvent<T>): void}} Listener
 */

/**
 * @typedef {object} SpokeOptions
 * @property {Uint8Array | string} [secretKey] 32 bytes, or 64 hex digits as `irohub id` keeps them;
 *   none: a new key, and so a new NodeID
 * @property {Endpoint} [endpoint] one of your own, which close() leaves open; `secretKey`, `bindAddr`
 *   and `relays` are then its matter
 * @property {string} [bindAddr] HOST:PORT, by numbers; none: any port of every address
 * @property {'none' | 'n0'} [relays] relay servers and discovery: none, or those of iroh's authors;
 *   'none' unless given
 * @property {string} [alpn] 'alkpubsub/1' unless given
 * @property {boolean} [reconnect] whether a lost connection is made anew; true unless given
 * @property {number} [minPause] ms before the first attempt to reconnect, doubled for each
 *   further one, and shortened by chance by up to a half; 250 unless given
 * @property {number} [maxPause] ms, over which it does not grow; 30,000 unless given
 * @property {number} [timeout] ms for an attempt to connect, for a write to make progress and for
 *   the hub's part in close(); 10,000 unless given
 * @property {number} [maxFrame] bytes of one event; larger than the hub's is of no use; 1 MiB unless
 *   given
 * @property {number} [maxQueue] bytes that dispatchEvent() may be ahead of the network before it
 *   throws; 16 MiB unless given
 * @property {number} [readAhead] bytes that loops over events() may be behind before the spoke reads
 *   no further; 1 MiB unless given
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
   * @param {'length'|'truncated'|'utf8'|'json'|'depth'|'not_object'|'type'|'id'|'repeated'|'surrogate'} flaw
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

// --- Frames ---

const MAX_FRAME = 1 << 20
const MAX_DEPTH = 128
const FROM = 74 // bytes of the member that a hub adds
const CHUNK = 64 << 10 // bytes that go through the library at once

/**
 * The names of an object's members as they come, and how deep it is nested.
 * JSON.parse tells neither.
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
  return { type, id, payload, ...(typeof from === 'string' && { from }) }
}

/**
 * Makes the frame of an event to publish. Throws a TypeError for one that is not allowed.
 * @param {Publication} event
 * @param {number} [maxFrame]
 */
export function encode(event, maxFrame = MAX_FRAME) {
  const { type, id = '' } = event
  if (typeof type !== 'string' || typeof id !== 'string') throw new TypeError('type and id are strings')
  const topic = topicOf({ type, id })
  if (type === '' || !isTopic(topic)) throw new TypeError(`not a topic: ${JSON.stringify(topic)}`)
  return frame(event, maxFrame - FROM)
}

/**
 * @param {Publication} event
 * @param {number} maxFrame
 */
function frame({ type, id, payload }, maxFrame) {
  const text = JSON.stringify({ type, id: id || undefined, payload })
  if (scan(text).depth > MAX_DEPTH) throw new TypeError(`nested more than ${MAX_DEPTH} deep`)
  const body = encoder.encode(text)
  if (body.length > maxFrame) throw new TypeError(`${body.length} bytes; at most ${maxFrame} are allowed`)
  const bytes = new Uint8Array(4 + body.length)
  new DataView(bytes.buffer).setUint32(0, body.length)
  bytes.set(body, 4)
  return bytes
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

// --- Link ---

/**
 * What a Link does with what comes.
 * @typedef {object} LinkOwner
 * @property {number} maxFrame
 * @property {number} timeout
 * @property {() => boolean} hasRoom whether to read on
 * @property {(envelope: Envelope, bytes: number) => void} event
 * @property {(error: RefusedError) => void} refused an event that was published
 */

/** One connection to a hub, with one stream. */
class Link {
  /** Resolves, and never rejects, once all that came has been worked through. @type {Promise<CloseError>} */
  ended
  /** Bytes that wait to be written. */
  queued = 0

  #connection
  #stream
  #owner
  /** @type {{bytes: Uint8Array, resolve: () => void, reject: (error: Error) => void}[]} */
  #queue = []
  /** @type {Promise<void> | null} */
  #writing = null
  /** Requests that are not answered yet, by id. @type {Map<string, (error: Error | null) => void>} */
  #answers = new Map()
  #lastId = 0
  #finishing = false
  #gone = false // the connection is closed; what has arrived may still be unread
  /** Why this side closed the connection, if it did. @type {CloseError | null} */
  #aborted = null
  /** @type {CloseError | null} */
  #end = null
  #wake = () => {}

  /**
   * @param {import('@number0/iroh').Connection} connection
   * @param {import('@number0/iroh').BiStream} stream
   * @param {LinkOwner} owner
   */
  constructor(connection, stream, owner) {
    this.#connection = connection
    this.#stream = { send: stream.send, recv: stream.recv }
    this.#owner = owner
    this.ended = this.#readLoop()
    connection.closed().then(() => {
      this.#gone = true
      this.#wake()
    })
  }

  /**
   * Queues a frame, and resolves when the network has taken it.
   * @param {Uint8Array} bytes
   * @returns {Promise<void>}
   */
  write(bytes) {
    if (this.#end) return Promise.reject(this.#end)
    if (this.#finishing) return Promise.reject(new CloseError(CloseCode.normal, 'closing'))
    return new Promise((resolve, reject) => {
      this.#queue.push({ bytes, resolve, reject })
      this.queued += bytes.length
      this.#writing ??= this.#writeLoop()
    })
  }

  /**
   * Sends a request for topics. The answer is called where the hub's stands in the order of what it
   * sends: with null, a RefusedError, or what ended the link.
   * @param {'__subscribe' | '__unsubscribe'} type
   * @param {string[]} topics
   * @param {(error: Error | null) => void} answer
   */
  request(type, topics, answer) {
    const id = String(++this.#lastId)
    this.#answers.set(id, answer)
    this.write(frame({ type, id, payload: { topics } }, MAX_FRAME)).catch((error) => {
      if (this.#answers.delete(id)) answer(error)
    })
    this.#wake()
  }

  /** Says that the owner may have room again. */
  resume() {
    this.#wake()
  }

  /** Ends the stream when all is written, and waits until the hub has worked through it. */
  async finish() {
    this.#finishing = true
    this.#wake()
    try {
      await this.#writing
      await this.#stream.send.finish().catch(() => {}) // of a failure, the end tells more
      const end = await within(this.ended, this.#owner.timeout, "the hub's part in closing")
      if (end.code !== CloseCode.normal) throw end
    } finally {
      this.abort(new CloseError(CloseCode.normal, 'closed'))
    }
  }

  /** Closes the connection at once. @param {CloseError} error */
  abort(error) {
    if (this.#end || this.#aborted) return
    this.#aborted = error
    this.#connection.close(BigInt(error.code ?? 0), Array.from(encoder.encode(error.reason)))
  }

  async #readLoop() {
    const end = await this.#read()
    this.#end = end // from here on, nothing is queued
    for (const { reject } of this.#queue) reject(end)
    for (const answer of this.#answers.values()) answer(end)
    this.#queue = []
    this.#answers.clear()
    this.#connection.close(0n, []) // without effect where it is closed already
    return end
  }

  async #read() {
    const { maxFrame, timeout, hasRoom } = this.#owner
    const frames = new FrameReader(maxFrame)
    try {
      for (;;) {
        // With an answer to wait for, it reads on: what stands before that is bounded by what the
        // hub lets wait, and a loop over events may be what waits for it.
        while (!hasRoom() && this.#answers.size === 0 && !this.#finishing && !this.#gone) {
          await new Promise((resolve) => (this.#wake = () => resolve(undefined)))
        }
        const chunk = await this.#stream.recv.read(CHUNK)
        if (chunk.length === 0) break
        for (const body of frames.push(Uint8Array.from(chunk))) this.#take(decode(body), body.length)
      }
      frames.end()
      return closeError(await within(this.#connection.closed(), timeout, "the hub's part in closing"))
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

  /**
   * @param {Envelope} envelope
   * @param {number} bytes
   */
  #take(envelope, bytes) {
    const { type, id, payload } = envelope
    if (!type.startsWith('__')) return this.#owner.event(envelope, bytes)
    if (type !== '__ack' && type !== '__error') return // of a later version
    if (id !== '' && !this.#answers.has(id)) return // to what was not asked on this link
    const error = type === '__error' ? new RefusedError(payload) : null
    const answer = this.#answers.get(id)
    this.#answers.delete(id)
    if (answer) answer(error)
    else if (error) this.#owner.refused(error)
  }

  async #writeLoop() {
    await null // what is published in one go is written in one
    try {
      while (this.#queue.length > 0) {
        let count = 0
        let size = 0
        while (count < this.#queue.length && size < CHUNK) size += this.#queue[count++].bytes.length
        const bytes = new Uint8Array(size)
        size = 0
        for (const part of this.#queue.slice(0, count)) {
          bytes.set(part.bytes, size)
          size += part.bytes.length
        }
        for (let at = 0; at < size; at += CHUNK) {
          const write = this.#stream.send.writeAll(toArray(bytes.subarray(at, at + CHUNK)))
          await within(write, this.#owner.timeout, 'a write')
        }
        this.queued -= size
        for (const { resolve } of this.#queue.splice(0, count)) resolve()
      }
    } catch (error) {
      // What is left in the queue is rejected at the link's end, which the reader sees
      // if the connection is gone.
      const isLate = error instanceof CloseError
      if (!isLate) await within(this.ended, this.#owner.timeout, 'the end').catch(() => {})
      this.abort(isLate ? error : new CloseError(null, 'cannot write', error))
    } finally {
      this.#writing = null
    }
  }
}

/** The library takes no typed arrays; Array.from is ten times slower. @param {Uint8Array} bytes */
function toArray(bytes) {
  const array = new Array(bytes.length)
  for (let i = 0; i < bytes.length; i++) array[i] = bytes[i]
  return array
}

// --- Loop ---

/** Events for one `for await`. @implements {AsyncIterableIterator<Envelope>} */
class Loop {
  /** Bytes of the events that are not taken yet. */
  waiting = 0
  topics
  #stop
  /** @type {{envelope: Envelope, bytes: number}[]} */
  #queue = []
  #next = 0 // the first in the queue that is not taken
  /** @type {{resolve: (result: IteratorResult<Envelope>) => void, reject: (error: Error) => void}[]} */
  #takers = []
  /** @type {Envelope | null} */
  #last = null
  /** @type {Error | null} */
  #error = null
  #done = false

  /**
   * @param {string[]} topics
   * @param {() => void} taken called when events have been taken, or the loop has ended
   */
  constructor(topics, taken) {
    this.topics = topics
    this.#stop = new AbortController()
    this.taken = taken
  }

  /** Aborted when the loop ends. */
  get signal() {
    return this.#stop.signal
  }

  /**
   * @param {Envelope} envelope
   * @param {number} bytes
   */
  push(envelope, bytes) {
    if (this.#last === envelope) return // by its topic, and by a pattern
    this.#last = envelope
    const taker = this.#takers.shift()
    if (taker) return taker.resolve({ value: envelope, done: false })
    this.#queue.push({ envelope, bytes })
    this.waiting += bytes
  }

  /** Ends the loop behind what is in the queue. @param {Error | null} error */
  end(error) {
    if (this.#done) return
    this.#done = true
    this.#error = error
    this.#stop.abort()
    for (const { resolve, reject } of this.#takers.splice(0)) {
      if (this.#error) reject(this.#error)
      else resolve({ value: undefined, done: true })
      this.#error = null // the first one gets it, as from a generator
    }
    this.taken()
  }

  /** @returns {Promise<IteratorResult<Envelope>>} */
  next() {
    if (this.#next < this.#queue.length) {
      const { envelope, bytes } = this.#queue[this.#next++]
      if (this.#next === this.#queue.length || this.#next === 1024) {
        this.#queue.splice(0, this.#next)
        this.#next = 0
      }
      this.waiting -= bytes
      this.taken()
      return Promise.resolve({ value: envelope, done: false })
    }
    if (!this.#done) return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }))
    const error = this.#error
    this.#error = null
    return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true })
  }

  /** @returns {Promise<IteratorResult<Envelope>>} */
  return() {
    this.#queue = []
    this.#next = this.waiting = 0
    this.#error = null
    if (this.#done) this.taken()
    else this.end(null)
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator]() {
    return this
  }
}

// --- Spoke ---

const lifecycle = ['__disconnect', '__reconnect', '__error']

/** What a spoke keeps of a topic that is listened to. */
class Topic {
  /** @type {{listener: unknown, capture: boolean, handler: any, forget: () => void}[]} */
  entries = []
  /** Whether the hub has acknowledged it on this connection. Before, an event may have a gap behind it. */
  acknowledged = false
  answered = false
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
 * - `__disconnect`, `__reconnect` and `__error` are no topics but about the connection: it was lost; it is
 *   back, and the hub has answered for every topic; the hub refused a topic or what was published.
 *
 * Delivery is at most once, in the order published, with no gap between `__reconnect` and
 * `__disconnect`. A spoke that is not closed keeps the process alive.
 */
export class Spoke extends EventTarget {
  /** The NodeID of this spoke. */
  node
  /** The NodeID of the hub. */
  hub
  /** Resolves at the spoke's end: with null after close(), else with what ended it. */
  closed

  #endpoint
  #address
  #options
  /** @type {Map<string, Topic>} */
  #topics = new Map()
  /** @type {Set<Loop>} */
  #loops = new Set()
  #bytes = 0 // of the event that is being given out
  /** @type {Link | null} */
  #link = null
  /** Why there is no link. @type {Error | null} */
  #lost = null
  /** The first refusal since the last flush(). @type {RefusedError | null} */
  #refused = null
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
   * the spoke in. Rejects with a CloseError if it has not, or has not answered in time.
   * @param {string} peer
   * @param {SpokeOptions} [options]
   */
  static async connect(peer, options = {}) {
    const address = parsePeer(peer)
    const endpoint = options.endpoint ?? (await bind(options))
    const spoke = new Spoke(endpoint, address, options)
    try {
      spoke.#keep(await spoke.#dial())
    } catch (error) {
      if (!options.endpoint) await endpoint.close()
      throw error
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
    const defaults = {
      alpn: 'alkpubsub/1',
      reconnect: true,
      minPause: 250,
      maxPause: 30_000,
      timeout: 10_000,
      maxFrame: MAX_FRAME,
      maxQueue: 16 << 20,
      readAhead: 1 << 20,
    }
    this.#options = { ...defaults, ...options }
    this.node = endpoint.id().toString()
    this.hub = address.id().toString()
    /** @type {Promise<Error | null>} */
    const closed = new Promise((resolve) => (this.#resolveClosed = resolve))
    this.closed = closed
  }

  /**
   * @template {string} T
   * @param {T} type a topic, a pattern, `__disconnect`, `__reconnect` or `__error`
   * @param {Listener<T> | null} listener
   * @param {AddEventListenerOptions | boolean} [options]
   */
  addEventListener(type, listener, options) {
    /** @type {any} */
    const native = listener
    if (lifecycle.includes(type)) return super.addEventListener(type, native, options)
    if (!isTopic(type)) throw new TypeError(`not a topic: ${JSON.stringify(type)}`)
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
    if (this.#link) this.#subscribe(this.#link, type, topic)
    else if (this.#over) topic.answer(this.#lost)
  }

  /**
   * @template {string} T
   * @param {T} type
   * @param {Listener<T> | null} listener
   * @param {EventListenerOptions | boolean} [options]
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
   * Publishes the event's detail, an envelope whose topic is the event's type. It returns at once; a
   * connection that is lost before the envelope is written loses it. Throws a TypeError for one that
   * is not allowed, and an error where there is no connection or over maxQueue waits for it:
   * publish() waits instead.
   * @param {CustomEvent<Publication>} event
   */
  dispatchEvent({ type, detail }) {
    if (detail === null || typeof detail !== 'object' || topicOf(detail) !== type) {
      throw new TypeError(`the detail is no envelope with the topic ${JSON.stringify(type)}`)
    }
    const bytes = encode(detail, this.#options.maxFrame)
    const link = this.#connected()
    if (link.queued > 0 && link.queued + bytes.length > this.#options.maxQueue) {
      throw new Error(`${link.queued} bytes are waiting to be written`)
    }
    link.write(bytes).catch(() => {})
    return true
  }

  /**
   * Publishes an event, and resolves when the network has taken it; flush() tells whether the hub has.
   * Rejects with a TypeError for one that is not allowed, and with an error where there is no
   * connection or it is lost before.
   * @param {Publication} event
   */
  async publish(event) {
    const bytes = encode(event, this.#options.maxFrame)
    await this.#connected().write(bytes)
  }

  /**
   * Waits until the hub has worked through all that was published before. Rejects with the first
   * refusal since the last flush(), if there was one, and with a CloseError if the connection is lost:
   * then it is not known what the hub got.
   * @returns {Promise<void>}
   */
  async flush() {
    const link = this.#connected()
    await new Promise((resolve, reject) => {
      link.request('__subscribe', [], (error) => {
        const failed = error ?? this.#refused
        this.#refused = null
        if (failed) reject(failed)
        else resolve(undefined)
      })
    })
  }

  /**
   * Resolves when the hub has acknowledged a topic that is listened to: what it passes on from then on
   * comes. While the connection is lost, it waits. Rejects with the hub's refusal.
   * @param {string} topic
   * @returns {Promise<void>}
   */
  async subscribed(topic) {
    const state = this.#topics.get(topic)
    if (!state) throw new Error(`nobody listens to ${JSON.stringify(topic)}`)
    await state.promise
  }

  /** As subscribed(), for every topic that is listened to now. */
  async ready() {
    await Promise.all([...this.#topics.values()].map(({ promise }) => promise))
  }

  /**
   * Subscribes to topics, at once, and returns the events as an async iterator. It goes on over lost
   * connections. It returns after close(), and throws what else ends the spoke, or the hub's refusal
   * of a topic. `break` unsubscribes.
   *
   * A loop that is behind by more than readAhead keeps the spoke from reading further, and all of
   * its listeners from getting more: the hub then disconnects it, as too slow, rather than skip
   * events. So read every loop that you open, or break it off.
   * @param {...string} topics
   * @returns {AsyncIterableIterator<Envelope>}
   */
  events(...topics) {
    const wrong = topics.find((topic) => !isTopic(topic))
    if (wrong !== undefined || topics.length === 0) throw new TypeError(`not a topic: ${JSON.stringify(wrong)}`)
    const loop = new Loop(topics, () => {
      if (loop.signal.aborted && loop.waiting === 0) this.#loops.delete(loop)
      this.#link?.resume()
    })
    if (this.#over) loop.end(this.#over.error)
    else this.#loops.add(loop)
    for (const topic of topics) {
      const listener = (/** @type {CustomEvent<Envelope>} */ event) => loop.push(event.detail, this.#bytes)
      this.addEventListener(topic, /** @type {Listener<string>} */ (listener), { signal: loop.signal })
    }
    return loop
  }

  /**
   * Ends the spoke: writes what was published, and waits until the hub has worked through it and
   * sent what it had. Rejects if the hub has not said so: then it is not known what it got. Where the
   * connection is lost there is nothing to wait for. Later calls return what the first did.
   */
  close() {
    return (this.#closing ??= this.#close())
  }

  async #close() {
    if (this.#over) return
    this.#isClosing = true
    this.#endPause()
    try {
      await this.#link?.finish()
    } finally {
      await this.#end(null)
    }
  }

  /** @param {Error | null} error */
  async #end(error) {
    if (this.#over) return
    this.#over = { error }
    this.#lose(error ?? new CloseError(CloseCode.normal, 'the spoke is closed'))
    for (const topic of this.#topics.values()) topic.answer(this.#lost)
    for (const loop of this.#loops) loop.end(error)
    if (!this.#options.endpoint) await this.#endpoint.close()
    this.#resolveClosed(error)
  }

  #connected() {
    if (!this.#link) throw this.#lost
    return this.#link
  }

  /** Sees to it that there is a link. @param {Link} link */
  async #keep(link) {
    const { reconnect, minPause, maxPause } = this.#options
    let pause = minPause
    for (;;) {
      const since = performance.now()
      const error = await link.ended
      if (this.#isClosing) return
      // A hub that took this spoke in and then had too many has a newer one with this NodeID.
      const reconnecting = reconnect && !isFinal(error) && error.code !== CloseCode.tooMany
      this.#lose(error)
      this.#tell('__disconnect', { error, reconnecting })
      if (!reconnecting) return this.#end(error)
      if (performance.now() - since >= maxPause) pause = minPause // else: one that never holds is not to hammer

      for (let attempts = 1; ; attempts++) {
        await this.#pause(pause * (1 - Math.random() / 2))
        pause = Math.min(2 * pause, maxPause)
        if (this.#isClosing) return
        try {
          link = await this.#dial()
          this.#tell('__reconnect', { attempts })
          break
        } catch (cause) {
          const failed = /** @type {Error} */ (cause)
          if (this.#isClosing) return
          this.#lose(failed)
          if (isFinal(failed)) {
            this.#tell('__disconnect', { error: failed, reconnecting: false })
            return this.#end(failed)
          }
          if (failed instanceof CloseError && failed.code === CloseCode.tooMany) pause = maxPause // it is full
        }
      }
    }
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
    const { alpn, timeout, maxFrame, readAhead } = this.#options
    /** @type {import('@number0/iroh').Connection | undefined} */
    let connection
    let late = false
    const attempt = async () => {
      try {
        connection = await this.#endpoint.connect(this.#address, Array.from(encoder.encode(alpn)))
      } catch (cause) {
        throw closeError(/** @type {Error} */ (cause).message, cause)
      }
      if (late || this.#isClosing) throw new CloseError(CloseCode.normal, 'closing')
      let stream
      try {
        stream = await connection.openBi()
      } catch (cause) {
        throw closeError(connection.closeReason() ?? /** @type {Error} */ (cause).message, cause)
      }
      const link = new Link(connection, stream, {
        maxFrame,
        timeout,
        hasRoom: () => {
          let waiting = 0
          for (const loop of this.#loops) waiting += loop.waiting
          return waiting <= readAhead
        },
        event: (envelope, bytes) => this.#receive(envelope, bytes),
        refused: (error) => {
          this.#refused ??= error
          this.#tell('__error', error)
        },
      })
      this.#link = link
      // One request for each, so that a refusal is of that topic alone.
      for (const [name, topic] of this.#topics) this.#subscribe(link, name, topic)
      // Answers come in order: this one is the last. It is also how a spoke without topics learns that
      // it was taken in.
      await new Promise((resolve, reject) => {
        link.request('__subscribe', [], (error) => (error ? reject(error) : resolve(undefined)))
      })
      return link
    }
    try {
      return await within(attempt(), timeout, 'connecting')
    } catch (error) {
      late = true
      if (!this.#isClosing || !this.#link) connection?.close(0n, [])
      throw error
    }
  }

  /**
   * @param {Link} link
   * @param {string} name
   * @param {Topic} topic
   */
  #subscribe(link, name, topic) {
    link.request('__subscribe', [name], (error) => {
      if (error && !(error instanceof RefusedError)) return // the link's end, of which #keep hears
      if (this.#topics.get(name) !== topic) return
      topic.acknowledged = !error
      topic.answer(error)
      if (!(error instanceof RefusedError)) return
      for (const loop of this.#loops) if (loop.topics.includes(name)) loop.end(error)
      this.#tell('__error', error)
    })
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
      this.#link?.request('__unsubscribe', [name], () => {})
    })
  }

  /**
   * @param {Envelope} envelope
   * @param {number} bytes
   */
  #receive(envelope, bytes) {
    this.#bytes = bytes
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

/** @param {string} peer */
function parsePeer(peer) {
  const [, node, hosts] = /^([0-9a-f]{64})(?:@(.+))?$/.exec(peer) ?? []
  try {
    if (node) return new EndpointAddr(EndpointId.fromString(node), null, hosts?.split(','))
    return EndpointTicket.fromString(peer).endpointAddr()
  } catch (cause) {
    throw new TypeError(`neither a ticket nor NODEID@HOST:PORT: ${peer}`, { cause })
  }
}

/** @param {SpokeOptions} options */
async function bind({ secretKey, bindAddr, relays = 'none' }) {
  const builder = Endpoint.builder()
  if (relays === 'n0') {
    builder.applyN0()
  } else {
    builder.applyMinimal()
    builder.relayMode(RelayMode.disabled())
  }
  if (secretKey !== undefined) {
    const bytes = typeof secretKey === 'string' ? fromHex(secretKey) : secretKey
    if (bytes.length !== 32) throw new TypeError('a secret key has 32 bytes, or 64 hex digits')
    builder.secretKey(Array.from(bytes))
  }
  if (bindAddr) builder.bindAddr(bindAddr)
  return builder.bind()
}

/** @param {string} text */
function fromHex(text) {
  const digits = text.trim()
  if (!/^[0-9a-f]{64}$/i.test(digits)) return new Uint8Array()
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16))
}
