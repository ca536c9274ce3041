// What a spoke has to write, and what has become of the events that it published.
import { unlessAborted } from './time.mjs'

/** @typedef {import('./link.mjs').Link} Link */

const ROOM = 256 << 10 // the most unwritten bytes before publish() waits

/** A publish() that waits for room. @typedef {{bytes: Uint8Array, resolve: () => void, reject: (error: unknown) => void}} Waiting */

/** The frames to write, over this link or the next one, and an account of the published events. */
export class Outbox {
  /** The number of published events. */
  published = 0
  /** Bytes to write. */
  unsent = 0
  /** The first lost connection since the last flush(). @type {Error | null} */
  loss = null

  #wake
  /** Requests for one link, and events (link null) for any link. @type {{link: Link | null, bytes: Uint8Array}[]} */
  #frames = []
  /** Calls of publish() that wait, in order. @type {Waiting[]} */
  #waiting = []
  #written = 0 // the number of events passed to a link
  #taken = 0 // the number of events that the hub has taken, or that were reported as possibly lost
  /** The first problem with an event since the last flush(). @type {Error | null} */
  #trouble = null

  /** @param {() => void} wake called when there is a frame to write */
  constructor(wake) {
    this.#wake = wake
  }

  /** The number of published events that were not passed to a link. */
  get unwritten() {
    return this.published - this.#written
  }

  /** Whether publish() waits. */
  get isFull() {
    return this.#waiting.length > 0 || this.unsent >= ROOM
  }

  /** Whether bytes would exceed a limit, or overtake a publish() that waits. @param {number} size @param {number} most */
  exceeds(size, most) {
    return this.#waiting.length > 0 || (this.unsent > 0 && this.unsent + size > most)
  }

  /** Queues an event. @param {Uint8Array} bytes */
  publish(bytes) {
    this.published++
    this.send(null, bytes)
  }

  /**
   * Queues an event once there is room.
   * @param {Uint8Array} bytes
   * @param {AbortSignal} [signal]
   */
  async publishLater(bytes, signal) {
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
   * Queues a request for one link, or an event.
   * @param {Link | null} link
   * @param {Uint8Array} bytes
   */
  send(link, bytes) {
    this.#frames.push({ link, bytes })
    this.unsent += bytes.length
    this.#wake()
  }

  /**
   * Takes the next frames for a link to write.
   * @param {Link} link
   * @param {number} most
   */
  take(link, most) {
    /** @type {Uint8Array[]} */
    const parts = []
    let count = 0
    for (let size = 0; count < this.#frames.length && size < most; count++) {
      const { link: owner, bytes } = this.#frames[count]
      this.unsent -= bytes.length
      if (!owner) this.#written++
      if (owner && owner !== link) continue // for a link that has ended
      parts.push(bytes)
      size += bytes.length
    }
    this.#frames.splice(0, count)
    while (this.unsent < ROOM && this.#waiting.length > 0) {
      const { bytes, resolve } = /** @type {Waiting} */ (this.#waiting.shift())
      this.publish(bytes)
      resolve()
    }
    return parts
  }

  /** Records that the hub has taken events. @param {number} published how many, of all that were published */
  taken(published = this.#written) {
    this.#taken = Math.max(this.#taken, published)
  }

  /** Records that the hub refused an event. @param {Error} error */
  refused(error) {
    this.#trouble ??= error
  }

  /**
   * Records that events may be lost with a link.
   * @param {Link} link
   * @param {Error} error
   */
  lost(link, error) {
    if (this.#written > Math.max(this.#taken, link.told)) {
      this.#trouble ??= error
      this.loss ??= error
    }
    this.#taken = this.#written
  }

  /** Returns and forgets the first problem with an event. */
  settle() {
    const trouble = this.#trouble
    this.#trouble = this.loss = null
    return trouble
  }

  /** Discards what is queued. @param {Error} why what each publish() that waits rejects with */
  end(why) {
    for (const { reject } of this.#waiting.splice(0)) reject(why)
    this.#frames = []
  }
}
