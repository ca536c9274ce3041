// A session with a hub: link after link, until the spoke ends.
import { CloseCode, CloseError } from './frames.mjs'
import { Link } from './link.mjs'
import { Outbox } from './outbox.mjs'
import { unlessAborted } from './time.mjs'
import { Topics } from './topics.mjs'

/** @typedef {import('./frames.mjs').Envelope} Envelope */
/** @typedef {import('./frames.mjs').RefusedError} RefusedError */
/** @typedef {import('./link.mjs').Connection} Connection */
/** @typedef {import('./link.mjs').Request} Request */

/**
 * A way to a hub.
 * @typedef {object} Transport
 * @property {string} node the NodeID of this spoke
 * @property {string} hub the NodeID of the hub
 * @property {(timeout: number) => Promise<Connection>} dial makes a connection; rejects with a CloseError
 * @property {() => void} giveUp makes dial() reject from here on
 * @property {() => Promise<void>} close frees what the transport holds
 */

/**
 * The state of a spoke. `reconnecting`: a connection was lost, and the hub has not yet acknowledged all topics
 * over a new one. `closed`: the final state.
 * @typedef {object} State
 * @property {'connected' | 'reconnecting' | 'closed'} name
 * @property {number} attempt when reconnecting: the number of the attempt, from 1; otherwise 0
 * @property {Error | null} error when reconnecting: why the connection was lost, or why the previous attempt
 *   failed; when closed: what ended the spoke, null after close()
 */

/**
 * @typedef {typeof import('./options.mjs').DEFAULTS} Settings
 */

/**
 * The callbacks of a Session.
 * @typedef {object} SessionOwner
 * @property {(type: '__state' | '__disconnect' | '__reconnect' | '__error', detail: unknown) => void} tell reports an
 *   event about the connection
 * @property {(envelope: Envelope, text: string) => void} event receives an event and its text
 * @property {(name: string, error: RefusedError) => void} refused learns that the hub refused a topic
 * @property {(error: Error | null) => void} ended learns that the spoke has ended; null: after close()
 */

/** Connects, reconnects whenever a link ends, and closes. */
export class Session {
  topics
  outbox
  /** Resolves at the end: with null after close(), otherwise with the error that ended the spoke or that close() rejects with. */
  closed
  /** The link that is up. @type {Link | null} */
  link = null
  /** Why there is no link. @type {Error | null} */
  lost = null
  /** @type {State} */
  state = Object.freeze({ name: 'connected', attempt: 0, error: null })
  isOver = false

  #transport
  #settings
  #owner
  /** The link that is being set up. @type {Link | null} */
  #dialled = null
  /** Called when there is a link, or at the end. @type {Set<() => void>} */
  #hoping = new Set()
  #isClosing = false
  /** @type {Promise<void> | null} */
  #closing = null
  /** @type {(error: Error | null) => void} */
  #resolveClosed = () => {}
  #endPause = () => {}

  /**
   * @param {Transport} transport
   * @param {Settings} settings
   * @param {SessionOwner} owner
   */
  constructor(transport, settings, owner) {
    this.#transport = transport
    this.#settings = settings
    this.#owner = owner
    this.topics = new Topics((name, error) => {
      owner.refused(name, error)
      owner.tell('__error', error)
    })
    this.outbox = new Outbox(() => this.link?.write())
    /** @type {Promise<Error | null>} */
    const closed = new Promise((resolve) => (this.#resolveClosed = resolve))
    this.closed = closed
  }

  /** Makes the first link. @param {AbortSignal} [signal] */
  async start(signal) {
    const connected = this.#dial()
    try {
      this.#keep(await unlessAborted(connected, signal))
    } catch (error) {
      connected.catch(() => {})
      this.#giveUp('given up')
      this.#transport.close().catch(() => {}) // not awaited: it may take 3 s
      throw error
    }
  }

  /** Throws if the spoke has ended, or is closing. */
  checkOpen() {
    if (this.isOver) throw this.lost
    if (this.#isClosing) throw new CloseError(CloseCode.normal, 'the spoke is closed')
  }

  /** Resolves with the link that is up, once there is one. @param {AbortSignal} [signal] */
  async connected(signal) {
    while (!this.link) {
      this.checkOpen()
      let hope = () => {}
      try {
        await unlessAborted(new Promise((resolve) => this.#hoping.add((hope = () => resolve(undefined)))), signal)
      } finally {
        this.#hoping.delete(hope)
      }
    }
    this.checkOpen()
    return this.link
  }

  /** Ends the session well. Later calls return the same promise. */
  close() {
    return (this.#closing ??= this.#close())
  }

  async #close() {
    /** @type {Error | null} */
    let error = null
    if (!this.isOver) {
      const { outbox } = this
      this.#giveUp('closed')
      const unwritten = outbox.unwritten
      try {
        if (this.link) await this.link.finish()
        else if (unwritten > 0) throw new CloseError(null, `closed without a connection; events not written: ${unwritten}`)
        outbox.taken()
      } catch (cause) {
        error = /** @type {Error} */ (cause)
      }
      await this.#end(error)
    }
    error = await this.closed
    if (error) throw error
  }

  /** Makes no further link. @param {string} reason */
  #giveUp(reason) {
    this.#isClosing = true
    this.#transport.giveUp()
    this.#endPause()
    this.#dialled?.abort(new CloseError(CloseCode.normal, reason))
  }

  /** @param {Error | null} error what ended the spoke; null after a successful close() */
  async #end(error) {
    if (this.isOver) return
    const link = this.link
    const why = error ?? new CloseError(CloseCode.normal, 'the spoke is closed')
    this.isOver = true
    this.#lose(why)
    this.topics.end(why)
    this.#owner.ended(error)
    this.outbox.end(why)
    for (const hope of this.#hoping) hope()
    this.#setState('closed', 0, error)
    await link?.settled()
    await this.#transport.close().catch(() => {}) // an endpoint that fails to close keeps nobody waiting
    this.#resolveClosed(error ?? this.outbox.loss)
  }

  /**
   * @param {State['name']} name
   * @param {number} attempt
   * @param {Error | null} error
   */
  #setState(name, attempt, error) {
    this.state = Object.freeze({ name, attempt, error })
    this.#owner.tell('__state', this.state)
  }

  // --- Link after link

  /** Reconnects whenever the link ends. @param {Link} link */
  async #keep(link) {
    const { reconnect, minBackoff, maxBackoff } = this.#settings
    let pause = minBackoff
    for (;;) {
      const since = performance.now()
      const error = await link.ended
      if (!this.#isClosing || error.code !== CloseCode.normal || !link.whole) this.outbox.lost(link, error)
      if (this.#isClosing) return
      // tooMany after the hub had accepted this spoke means that a newer spoke has this NodeID.
      const reconnecting = reconnect && !isFinal(error) && error.code !== CloseCode.tooMany
      this.#lose(error)
      if (reconnecting) this.#setState('reconnecting', 1, error)
      this.#owner.tell('__disconnect', { error, reconnecting })
      if (!reconnecting) return this.#end(error)
      if (performance.now() - since >= maxBackoff) pause = minBackoff // if links never last, the pause keeps growing

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
            this.#owner.tell('__disconnect', { error: failed, reconnecting: false })
            return this.#end(failed)
          }
          if (failed instanceof CloseError && failed.code === CloseCode.tooMany) pause = Math.max(pause, maxBackoff) // the hub is full
          this.#setState('reconnecting', this.state.attempt + 1, failed)
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
    this.link = null
    this.lost = error
    this.topics.lose()
  }

  /** Makes a link. Resolves when the hub has answered for all topics. */
  async #dial() {
    const { handshakeTimeout, writeTimeout, maxFrame } = this.#settings
    const connection = await this.#transport.dial(handshakeTimeout)
    /** @type {Link} */
    const link = new Link(connection, {
      maxFrame,
      handshakeTimeout,
      writeTimeout,
      event: this.#owner.event,
      refused: (error) => {
        this.outbox.refused(error)
        this.#owner.tell('__error', error)
      },
      nextRequest: () => this.topics.nextRequest(link) ?? this.#nextFlush(link),
      take: (link, most) => this.outbox.take(link, most),
      send: (link, bytes) => this.outbox.send(link, bytes),
    })
    this.#dialled = link
    this.topics.begin(link)
    try {
      await new Promise((resolve, reject) => {
        // A spoke without topics sends an empty request; its answer shows that the hub has accepted the
        // spoke. If the hub refuses one topic of a request, the others are requested again. The link must
        // be up as soon as the last answer arrives, because events may follow directly.
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
    const { name, attempt } = this.state
    this.link = link
    link.begin()
    for (const hope of this.#hoping) hope()
    if (name !== 'reconnecting') return
    this.#setState('connected', 0, null)
    this.#owner.tell('__reconnect', { attempts: attempt })
  }

  /**
   * Returns an empty request for the calls of flush() that wait.
   * @param {Link} link
   * @returns {Request | null}
   */
  #nextFlush(link) {
    if (link.flushes.length === 0) return null
    const flushes = link.flushes.splice(0)
    const { published } = this.outbox
    return {
      type: '__subscribe',
      topics: [],
      answer: (error) => {
        if (!error && link.up) this.outbox.taken(published)
        for (const flushed of flushes) flushed(error)
      },
    }
  }
}

/** Returns whether another attempt would fail in the same way. @param {Error} error */
function isFinal(error) {
  const { protocol, notAdmitted } = CloseCode
  return error instanceof CloseError && (error.code === protocol || error.code === notAdmitted)
}
