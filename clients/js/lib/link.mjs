// One connection to a hub: its requests, and the frames both ways.
import { ANSWER, CloseCode, CloseError, frame, FrameError, FrameReader, MAX_FRAME, parse, RefusedError } from './frames.mjs'
import { within } from './time.mjs'

/** @typedef {import('./frames.mjs').Envelope} Envelope */

const MAX_REQUESTS = 4 // the most unanswered requests, which bounds what a hub must queue for a spoke
const CHUNK = 64 << 10 // the most bytes in one write

/**
 * A connection with one stream, as a transport makes it.
 * @typedef {object} Connection
 * @property {(abort: (error: CloseError) => void) => void} guard calls abort if the hub does what the transport
 *   forbids
 * @property {() => Promise<Uint8Array>} read resolves with the bytes that come next, with none at the end of the
 *   hub's half of the stream; rejects with a CloseError
 * @property {(bytes: Uint8Array) => Promise<void>} write resolves when the transport has taken the bytes
 * @property {() => Promise<void>} finish ends the spoke's half of the stream
 * @property {(timeout: number) => Promise<CloseError>} closed resolves with how the hub has closed the connection,
 *   after the end of its half, or with a timeout
 * @property {(error: CloseError) => void} close closes the connection at once; no effect if it is closed already
 * @property {() => Promise<void>} settled resolves when nothing of the transport runs any more
 */

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

/** A connection to a hub, and its state. */
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
  #owner
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
  #finishing = false
  /** Why this side closed the connection, if it did. @type {CloseError | null} */
  #aborted = null
  /** @type {CloseError | null} */
  #end = null

  /**
   * @param {Connection} connection
   * @param {LinkOwner} owner
   */
  constructor(connection, owner) {
    this.#connection = connection
    this.#owner = owner
    connection.guard((error) => this.abort(error))
    this.ended = this.#readLoop()
  }

  /** Resolves when nothing of the transport runs any more. */
  settled() {
    return this.#connection.settled()
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
      await this.#connection.finish().catch(() => {}) // the end of the link explains a failure better
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
    this.#connection.close(error)
  }

  async #readLoop() {
    const end = await this.#readAll()
    clearTimeout(this.#watch)
    this.#end = end // from here on, nothing more is queued
    for (const answer of this.#answers.values()) answer(end)
    // If the hub closes normally after finish(), it has processed everything.
    const isWell = this.#finishing && this.whole && end.code === CloseCode.normal
    for (const flushed of this.flushes) flushed(isWell ? null : end)
    this.#queue = []
    this.#answers.clear()
    this.flushes = []
    this.#connection.close(new CloseError(CloseCode.normal, ''))
    return end
  }

  async #readAll() {
    const { maxFrame, writeTimeout: timeout } = this.#owner
    const frames = new FrameReader(Math.max(maxFrame, ANSWER))
    try {
      for (;;) {
        const bytes = await this.#connection.read()
        if (this.#aborted) return this.#aborted
        if (bytes.length === 0) break
        this.#moved = performance.now()
        for (const body of frames.push(bytes)) this.#take(body)
      }
      frames.end()
      this.whole = true
      const end = await this.#connection.closed(timeout)
      return this.#aborted ?? end
    } catch (cause) {
      if (this.#aborted) return this.#aborted
      if (cause instanceof FrameError) {
        this.abort(new CloseError(CloseCode.protocol, cause.message, cause))
        return /** @type {CloseError} */ (/** @type {unknown} */ (this.#aborted))
      }
      return /** @type {CloseError} */ (cause)
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
          await within(this.#connection.write(bytes.subarray(at, at + CHUNK)), this.#owner.writeTimeout, 'a write')
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
