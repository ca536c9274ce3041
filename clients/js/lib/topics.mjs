// The topics of a spoke, and the requests for them.
import { RefusedError } from './frames.mjs'

/** @typedef {import('./link.mjs').Link} Link */
/** @typedef {import('./link.mjs').Request} Request */

const MAX_BATCH = 64 // the most topics in a request
const MAX_BATCH_LENGTH = 4 << 10 // the most characters in its topics together, of up to 4 bytes each

/** The state of a topic that has listeners. */
export class Topic {
  /** @type {{listener: unknown, capture: boolean, handler: any, forget: () => void}[]} */
  entries = []
  /** Whether the hub has acknowledged it on this connection. Before that, there may be gaps between events. */
  acknowledged = false
  answered = false
  /** Whether to request it alone: the hub refused a request with several topics without naming one. */
  isAlone = false
  /** @type {(error: Error | null) => void} */
  answer = () => {}
  /** Settles with the hub's answer. @type {Promise<void>} */
  promise = this.renew()

  /** Prepares for another answer. */
  renew() {
    this.answered = false
    const promise = new Promise((resolve, reject) => {
      this.answer = (error) => {
        this.answered = true
        if (error) reject(error)
        else resolve(undefined)
      }
    })
    promise.catch(() => {}) // a rejection that nobody awaits is not an error
    return (this.promise = promise)
  }
}

/** The topics that have listeners, by name. */
export class Topics {
  #refused
  /** @type {Map<string, Topic>} */
  #topics = new Map()
  /** The link that carries the requests: it is up, or being set up. @type {Link | null} */
  #link = null

  /** @param {(name: string, error: RefusedError) => void} refused called when the hub refuses a topic */
  constructor(refused) {
    this.#refused = refused
  }

  /** @param {string} name */
  get(name) {
    return this.#topics.get(name)
  }

  /** The answers for all topics. */
  get answers() {
    return [...this.#topics.values()].map(({ promise }) => promise)
  }

  /** Adds a topic, and subscribes to it. @param {string} name */
  add(name) {
    const topic = new Topic()
    this.#topics.set(name, topic)
    this.#ask(name)
    return topic
  }

  /** Removes a topic, and unsubscribes from it. @param {string} name */
  remove(name) {
    this.#topics.delete(name)
    this.#ask(name)
  }

  /** Requests all topics over a new link. @param {Link} link */
  begin(link) {
    this.#link = link
    for (const name of this.#topics.keys()) link.changed.add(name)
  }

  /** Ends the requests over a link. Every topic waits for another answer. */
  lose() {
    this.#link = null
    for (const [name, topic] of this.#topics) {
      topic.acknowledged = false
      if (topic.answered) topic.renew()
      if (topic.entries.length === 0) this.#topics.delete(name)
    }
  }

  /** Answers for every topic at the end of the spoke. @param {Error} why */
  end(why) {
    for (const topic of this.#topics.values()) topic.answer(why)
  }

  /** Subscribes or unsubscribes, whatever the topic's state requires. @param {string} name */
  #ask(name) {
    this.#link?.changed.add(name)
    this.#link?.ask()
  }

  /**
   * Returns the next request for topics: as many as fit.
   * @param {Link} link
   * @returns {Request | null}
   */
  nextRequest(link) {
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
    return type && { type, topics: [...batch.keys()], answer: this.#asked(link, batch) }
  }

  /**
   * Records that topics were requested, and returns the function that handles the answer.
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
      if (this.#link !== link || (error && !(error instanceof RefusedError))) return // the link has ended, and another one asks again
      // If one topic is refused, the hub subscribes to none of the request, so the others are requested again.
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
          this.#refused(name, error)
        } else {
          if (!isNamed) topic.isAlone = true
          link.changed.add(name)
        }
      }
      link.ask()
    }
  }
}
