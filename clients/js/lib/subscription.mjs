// A subscription: events of some topics, for one loop.
import { CloseCode, CloseError, envelopeOf } from './frames.mjs'

/** @typedef {import('./frames.mjs').Envelope} Envelope */

/**
 * The events of some topics, for one `for await` loop. Each subscription has its own queue and continues across
 * reconnections. After Spoke.close(), the loop returns once the queue is empty. Any other end throws an error
 * once the queue is empty: the error that ended the spoke, the hub's refusal of a topic, the reason of an
 * aborted signal, or a CloseError named TooSlow if more than maxQueue was queued. After a refusal or TooSlow,
 * the spoke and its other subscriptions continue. `break` closes the subscription.
 * @typedef {AsyncIterableIterator<Envelope> & {readonly topics: readonly string[], close(): void}} Subscription
 */

const EVENT_COST = 96 // bytes that a queued event counts in addition to its text
const nothing = { text: '', size: 0 }

/** The implementation of Subscription. */
export class Loop {
  topics
  #limit
  #left
  #stop = new AbortController()
  /** Events are queued as text, which needs less memory than decoded values. @type {{text: string, size: number}[]} */
  #queue = []
  #next = 0 // index of the first event in the queue that was not taken
  #bytes = 0 // queued bytes, including EVENT_COST
  /** @type {{resolve: (result: IteratorResult<Envelope>) => void, reject: (error: Error) => void}[]} */
  #takers = []
  /** @type {Envelope | null} */
  #last = null
  /** @type {Error | null} */
  #error = null
  #done = false

  /**
   * @param {string[]} topics
   * @param {number} limit the most queued bytes
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
   * @param {string} text the text that it was decoded from
   */
  push(envelope, text) {
    if (this.#last === envelope) return // it matches both a topic and a pattern
    this.#last = envelope
    const taker = this.#takers.shift()
    if (taker) return taker.resolve({ value: envelope, done: false })
    const size = text.length * (/[^\0-\xff]/.test(text) ? 2 : 1) + EVENT_COST
    if (this.#queue.length > 0 && this.#bytes + size > this.#limit) {
      const words = `the next event of ${size} bytes does not fit beside ${this.#bytes} bytes that wait`
      return this.end(new CloseError(CloseCode.tooSlow, `${words}; the limit is ${this.#limit}`))
    }
    this.#queue.push({ text, size })
    this.#bytes += size
  }

  /** Ends the loop once the queue is empty. @param {Error | null} error */
  end(error) {
    if (this.#done) return
    this.#done = true
    this.#error = error
    this.#last = null
    this.#stop.abort()
    for (const { resolve, reject } of this.#takers.splice(0)) {
      if (this.#error) reject(this.#error)
      else resolve({ value: undefined, done: true })
      this.#error = null // only the first taker gets it, as with a generator
    }
    this.#left()
  }

  /** Ends the loop and discards the queue. */
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
      this.#queue[this.#next++] = nothing // frees the text before the next splice
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
