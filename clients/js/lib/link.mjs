// One connection to a hub, and the calls into the library.
// @ts-ignore: an application may lack Node's declarations; Bun and Deno have this module too.
import { isMainThread } from 'node:worker_threads'
import { ANSWER, CloseCode, CloseError, bytesOf, frame, FrameError, FrameReader, MAX_FRAME, parse, RefusedError } from './frames.mjs'

/** @typedef {import('@number0/iroh').Endpoint} Endpoint */
/** @typedef {import('./frames.mjs').Envelope} Envelope */

const CHUNK = 64 << 10 // the most bytes in one read or write of the library

/**
 * Parses the library's text about how a connection ended. The library gives the code nowhere else.
 * @param {string} words
 * @param {unknown} [cause]
 */
export function closeError(words, cause) {
  const closed = /^closed by peer: (?:([^]*) \(code (\d+)\)|(\d+))$/.exec(words)
  if (closed) return new CloseError(Number(closed[2] ?? closed[3]), closed[1] ?? '', cause)
  const reset = /^Reset\((\d+)\)/.exec(words)
  if (reset) return new CloseError(Number(reset[1]), 'the hub aborted the stream', cause)
  return new CloseError(null, `connection lost: ${words.split('\n', 1)[0]}`, cause)
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {number} ms
 * @param {string} what
 */
export async function within(promise, ms, what) {
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

/** @param {number} ms @returns {Promise<void>} */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// --- Calls into the library ---

// The number of promises that the library has to settle. If the library settles one just after a Worker's
// thread has ended, it crashes the process. A read that waits for the network is an exception: its stream
// ends with the thread, and it is never settled. So other calls are not left pending where that can be
// avoided: no closed(), and in a Worker no acceptUni() or acceptBi().
let calls = 0
/** Endpoints to close when a Worker ends; otherwise a connect() would be settled long after. @type {Set<Endpoint>} */
export const unsettled = new Set()

/**
 * @template T
 * @param {Promise<T>} promise
 */
export async function call(promise) {
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
export async function release(endpoint) {
  unsettled.add(endpoint)
  try {
    await call(endpoint.close())
  } finally {
    unsettled.delete(endpoint)
  }
}

// --- Link ---

const MAX_REQUESTS = 4 // the most unanswered requests, which bounds what a hub must queue for a spoke
const WINDOW = 4 << 20 // the most bytes received but not read: iroh's stream window, with a margin
const POLL = 20 // ms between checks whether a connection is closed; the library has no other way

/**
 * A request for topics. `answer` is called in order with the events that the hub sends: with null, a
 * RefusedError, or the error that ended the link.
 * @typedef {object} Request
 * @property {'__subscribe' | '__unsubscribe'} type
 * @property {string[]} topics
 * @property {(error: Error | null) => void} answer
 */

/**
 * The callbacks and limits of a Link.
 * @typedef {object} LinkOwner
 * @property {number} maxFrame
 * @property {number} handshakeTimeout
 * @property {number} writeTimeout
 * @property {(link: Link, most: number) => Uint8Array[]} take returns the next frames to write, once the link
 *   is up
 * @property {(link: Link, bytes: Uint8Array) => void} send queues a frame after the published events
 * @property {(envelope: Envelope, text: string) => void} event receives an event and its text
 * @property {(error: RefusedError) => void} refused learns that a published event was refused
 * @property {() => Request | null} nextRequest returns the next request
 */

/** One connection to a hub, with one stream, and its state. */
export class Link {
  /** Resolves once everything received has been processed; never rejects. @type {Promise<CloseError>} */
  ended
  /** Whether the hub has answered for all topics. From then on, events are sent and received. */
  up = false
  /** The topics requested from the hub and not refused, by name. @type {Map<string, object>} */
  asked = new Map()
  /** Names of topics to subscribe to or to unsubscribe from. @type {Set<string>} */
  changed = new Set()
  /** The number of unanswered requests for topics. */
  asking = 0
  /** Callbacks of flush() that wait for the next empty request. @type {((error: Error | null) => void)[]} */
  flushes = []
  /** Up to this event number, a caller has learned that events may be lost. */
  told = 0
  /** Whether the hub ended its half of the stream after a complete frame. */
  whole = false

  #connection
  #stream
  #owner
  /** Calls into the library that are not settled yet. @type {Set<Promise<unknown>>} */
  #calls = new Set()
  /** Requests to write before the link is up. @type {Uint8Array[]} */
  #queue = []
  /** @type {Promise<void> | null} */
  #writing = null
  /** Callbacks of unanswered requests, by id. @type {Map<string, (error: Error | null) => void>} */
  #answers = new Map()
  #lastId = 0
  #isAsking = false // a call of #askNow is scheduled
  #moved = performance.now() // when bytes were last received or written
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watch
  #read = 0 // bytes read
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
   * A hub must not open streams. iroh would buffer what it sends on them: iroh allows 200 streams with 1.25 MB
   * each. So the first such stream ends the connection. A Worker cannot wait for one; see #countUnread.
   */
  #refuseStreams() {
    this.#connection.setMaxConcurrentUniStreams(0n)
    this.#connection.setMaxConcurrentBiStreams(0n)
    if (!isMainThread) return
    for (const opened of [() => this.#connection.acceptUni(), () => this.#connection.acceptBi()]) {
      this.#call(/** @type {Promise<unknown>} */ (opened())).then(
        () => this.abort(new CloseError(CloseCode.protocol, 'a hub must not open streams')),
        () => {}, // the connection has ended
      )
    }
  }

  /**
   * Ends the connection if it has received far more than was read: the rest is on streams that a hub must not
   * open. Bytes that our own traffic or the passing of time explain are not counted.
   */
  #countUnread() {
    const { udpRxBytes: received, udpTxBytes: sent } = this.#connection.stats()
    const now = performance.now()
    const read = this.#read
    const last = this.#unread
    const explained = 1.25 * (read - last.read) + (sent - last.sent) / 4 + (now - last.since)
    const bytes = Math.max(0, last.bytes + received - last.received - explained)
    this.#unread = { received, read, sent, since: now, bytes }
    if (bytes > WINDOW) this.abort(new CloseError(CloseCode.protocol, `${Math.round(bytes)} bytes arrived outside this spoke's stream`))
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

  /** Resolves when the library has settled all calls, or after 1 s. */
  async settled() {
    if (this.#calls.size > 0) await Promise.race([Promise.allSettled(this.#calls), sleep(1000)])
  }

  /** Starts writing, if it is not running. */
  write() {
    if (!this.#end && !this.#finishing) this.#writing ??= this.#writeLoop()
  }

  /** Marks the link as up: from here on, events are sent and received. */
  begin() {
    this.up = true
    clearTimeout(this.#watch)
    this.write()
  }

  /** Schedules the next requests. */
  ask() {
    if (this.#isAsking) return
    this.#isAsking = true
    queueMicrotask(() => this.#askNow()) // later, so that topics added together share a request
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
   * Calls flushed when the hub has processed everything written before: with null, a RefusedError, or the error
   * that ended the link.
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

  /** Until the link is up: ends it if nothing is received or written within the limit. */
  #watchAnswers() {
    const { handshakeTimeout: limit } = this.#owner
    this.#watch = undefined
    if (this.up || this.#end) return
    const left = this.#moved + limit - performance.now()
    if (left <= 0) return this.abort(new CloseError(CloseCode.timeout, `the hub did not answer within ${limit} ms`))
    this.#watch = setTimeout(() => this.#watchAnswers(), left)
  }

  /** Ends the stream once everything is written, and waits until the hub has processed it. */
  async finish() {
    this.#askNow()
    try {
      while (this.#writing) await this.#writing
      this.#finishing = true
      await this.#call(this.#stream.send.finish()).catch(() => {}) // the end of the link explains a failure better
      const end = await this.#withinSilence(this.ended, 'closing by the hub')
      if (end.code !== CloseCode.normal || !this.whole) throw end
    } finally {
      this.abort(new CloseError(CloseCode.normal, 'closed'))
    }
  }

  /**
   * Awaits a promise. Times out only if nothing is received or written for writeTimeout.
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
    this.#connection.close(BigInt(error.code ?? 0), Array.from(bytesOf(error.reason)))
  }

  async #readLoop() {
    // A Worker cannot wait for streams that a hub opens; see #countUnread.
    const look = isMainThread ? undefined : setInterval(() => this.#countUnread(), 100)
    const end = await this.#readAll()
    clearInterval(look)
    clearTimeout(this.#watch)
    this.#end = end // from here on, nothing more is queued
    for (const answer of this.#answers.values()) answer(end)
    // If the hub closes normally after finish(), it has processed everything.
    const isWell = this.#finishing && this.whole && end.code === CloseCode.normal
    for (const flushed of this.flushes) flushed(isWell ? null : end)
    this.#queue = []
    this.#answers.clear()
    this.flushes = []
    this.#connection.close(0n, []) // no effect if it is closed already
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
      return new CloseError(CloseCode.timeout, `closing by the hub took over ${timeout} ms`)
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
    if (type !== '__ack' && type !== '__error') return // an event type of a later version
    if (id !== '' && !this.#answers.has(id)) return // not an answer to a request of this link
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
    await null // so that events published together are written together
    try {
      for (let bytes = this.#next(); bytes.length > 0; bytes = this.#next()) {
        for (let at = 0; at < bytes.length; at += CHUNK) {
          const write = this.#call(this.#stream.send.writeAll(toArray(bytes.subarray(at, at + CHUNK))))
          await within(write, this.#owner.writeTimeout, 'a write')
          this.#moved = performance.now()
        }
      }
    } catch (error) {
      // If the connection was lost, the reader finds out why.
      const isLate = error instanceof CloseError
      if (!isLate) await within(this.ended, this.#owner.writeTimeout, 'the end').catch(() => {})
      this.abort(isLate ? error : new CloseError(null, 'cannot write', error))
    } finally {
      this.#writing = null
    }
  }

  /** Returns the next bytes to write. */
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

/** Converts to an array, as the library accepts no typed arrays. Array.from is ten times slower. @param {Uint8Array} bytes */
function toArray(bytes) {
  const array = new Array(bytes.length)
  for (let i = 0; i < bytes.length; i++) array[i] = bytes[i]
  return array
}
