// One connection to a hub, and the calls of the library.
// @ts-ignore: an application may have no declarations of Node's; Bun and Deno have the module too.
import { isMainThread } from 'node:worker_threads'
import { ANSWER, CloseCode, CloseError, bytesOf, frame, FrameError, FrameReader, MAX_FRAME, parse, RefusedError } from './frames.mjs'

/** @typedef {import('@number0/iroh').Endpoint} Endpoint */
/** @typedef {import('./frames.mjs').Envelope} Envelope */

const CHUNK = 64 << 10 // bytes that go through the library at once

/**
 * How a connection ended, from the words of the library, which has the code nowhere else.
 * @param {string} words
 * @param {unknown} [cause]
 */
export function closeError(words, cause) {
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

// --- Calls of the library ---

// What the library has to settle. It ends the process, if it does so as a Worker's thread has just
// ended. A read that waits for the network is an exception: its stream goes with the thread, and it is
// never settled. So no other call is left waiting where that can be avoided: no closed(), and in a
// Worker no acceptUni() or acceptBi().
let calls = 0
/** Those to be closed first, at a Worker's end: a connect() would be settled long after. @type {Set<Endpoint>} */
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
export async function release(endpoint) {
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
export class Link {
  /** Resolves, and never rejects, once all that came has been worked through. @type {Promise<CloseError>} */
  ended
  /** Whether the hub has answered for all topics: events go both ways from then on. */
  up = false
  /** What the hub was asked for, and has not refused, by name. @type {Map<string, object>} */
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
    this.#connection.close(BigInt(error.code ?? 0), Array.from(bytesOf(error.reason)))
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
