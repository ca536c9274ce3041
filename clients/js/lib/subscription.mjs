// A subscription: events of some topics, for one loop.
import { CloseCode, CloseError, envelopeOf } from './frames.mjs'

/** @typedef {import('./frames.mjs').Envelope} Envelope */

/**
 * The events of some topics, for one `for await`. It has a queue of its own, and goes on over lost
 * connections. The loop returns after Spoke.close(), behind what had come. It throws what else ended
 * it, behind what had come: what ended the spoke, the hub's refusal of a topic, what a signal was
 * aborted with, or a CloseError named TooSlow where over maxQueue was waiting: the spoke and its
 * other subscriptions go on then. `break` closes it.
 * @typedef {AsyncIterableIterator<Envelope> & {readonly topics: readonly string[], close(): void}} Subscription
 */

const EVENT_COST = 96 // bytes of an event that waits, besides its text
const nothing = { text: '', size: 0 }

/** A Subscription. */
export class Loop {
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
