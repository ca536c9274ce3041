/**
 * A spoke of an irohub hub: publish and subscribe over iroh, as an event target. It speaks alkpubsub/1 and
 * needs Node 20.3 or later.
 */
import { CloseCode, CloseError, encode, bytesOf, isTopic, patternOf, RefusedError, shown, topicOf } from './lib/frames.mjs'
import { call, closeError, Link, release, unsettled, within } from './lib/link.mjs'
import { bind, checkOptions, checkSignal, DEFAULTS, parsePeer, split, unlessAborted } from './lib/options.mjs'
import { Loop } from './lib/subscription.mjs'

export { CloseCode, CloseError, decode, encode, FrameError, FrameReader, isTopic, matches, patternOf, RefusedError, scan, topicOf } from './lib/frames.mjs'

/** @typedef {import('@number0/iroh').Endpoint} Endpoint */
/** @typedef {import('@number0/iroh').EndpointAddr} EndpointAddr */
/** @typedef {import('./lib/frames.mjs').Envelope} Envelope */
/** @typedef {import('./lib/frames.mjs').Publication} Publication */
/** @typedef {import('./lib/options.mjs').Cancellable} Cancellable */
/** @typedef {import('./lib/options.mjs').SpokeOptions} SpokeOptions */
/** @typedef {import('./lib/subscription.mjs').Subscription} Subscription */
/** @typedef {import('./lib/link.mjs').Request} Request */

/** The version of this package. @type {string} */
export const version = '0.1.0'

/**
 * The detail of `__disconnect`: why the connection ended, and whether the spoke reconnects.
 * @typedef {{error: Error, reconnecting: boolean}} Disconnect
 */

/**
 * The detail of `__reconnect`: how many attempts it took.
 * @typedef {{attempts: number}} Reconnect
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
 * A CustomEvent. Not every project has a declaration of that type.
 * @template T
 * @typedef {Event & {readonly detail: T} & (typeof globalThis extends {CustomEvent: {prototype: infer E}}
 *   ? Omit<E, 'detail'> : {})} Detailed
 */

/**
 * What a listener receives: for a topic, an envelope; for the four names that are not topics, an event about
 * the connection.
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
 * The same as for any event target.
 * @typedef {{capture?: boolean, once?: boolean, passive?: boolean, signal?: AbortSignal}} ListenerOptions
 */

const MAX_DIALS = 4 // the most concurrent attempts to connect
const MAX_BATCH = 64 // the most topics in a request
const MAX_BATCH_LENGTH = 4 << 10 // the most characters in its topics together, of up to 4 bytes each

const lifecycle = ['__state', '__disconnect', '__reconnect', '__error']

const OUTBOX = 256 << 10 // the most unwritten bytes before publish() waits

/** The state of a topic that has listeners. */
class Topic {
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

/** A publish() that waits for room. @typedef {{bytes: Uint8Array, resolve: () => void, reject: (error: unknown) => void}} Waiting */

/**
 * A connection to a hub that reconnects by itself. It is an event target:
 *
 * - `addEventListener(topic, listener)` subscribes. The listener receives the events that the hub forwards,
 *   with the topic as the event's type and the envelope as its detail. A topic's first listener subscribes to
 *   it; removing the last one unsubscribes.
 * - For a pattern `T:*`, the event's type is the pattern, because an event target calls listeners by the type
 *   that they were added for. `topicOf(event.detail)` is the topic. If an event has listeners for both its
 *   topic and the pattern, the hub sends it once, and each listener receives it once.
 * - `dispatchEvent(event)` publishes to the hub. The hub never sends an event back to its publisher, so
 *   listeners of this spoke are not called.
 * - `__state`, `__disconnect`, `__reconnect` and `__error` are not topics. They report that the state has
 *   changed; that the connection was lost; that the spoke is connected again and the hub has answered for every
 *   topic; and that the hub refused a topic or a published event.
 *
 * Delivery is at most once, in the order published, and without gaps between `__reconnect` and `__disconnect`.
 * An open spoke keeps the process alive.
 */
export class Spoke extends EventTarget {
  /** The NodeID of this spoke. */
  node
  /** The NodeID of the hub. */
  hub
  /** Resolves when the spoke ends: with null after close(), otherwise with the error that ended it or that close() rejects with. */
  closed

  #endpoint
  #address
  #options
  /** @type {Map<string, Topic>} */
  #topics = new Map()
  /** @type {Set<Loop>} */
  #loops = new Set()
  #text = '' // the text of the event that is being delivered
  /** Attempts to connect that the library has not settled yet. @type {Set<Promise<unknown>>} */
  #dials = new Set()
  /** The link that is up. @type {Link | null} */
  #link = null
  /** The link that is being set up. @type {Link | null} */
  #dialled = null
  /** Why there is no link. @type {Error | null} */
  #lost = null
  /** Called when there is a link, or at the end. @type {Set<() => void>} */
  #hoping = new Set()
  /** @type {State} */
  #state = Object.freeze({ name: 'connected', attempt: 0, error: null })

  /** Frames to write: requests for one link, and events (link null) for any link. @type {{link: Link | null, bytes: Uint8Array}[]} */
  #outbox = []
  #unsent = 0 // bytes in the outbox
  /** Calls of publish() that wait, in order. @type {Waiting[]} */
  #waiting = []
  // Numbers of events: published, passed to a link, and settled (taken by the hub, or reported as possibly lost).
  #published = 0
  #written = 0
  #taken = 0
  /** The first problem with an event since the last flush(). @type {Error | null} */
  #trouble = null
  /** The first lost connection since the last flush(). @type {Error | null} */
  #loss = null

  #isClosing = false
  /** @type {Promise<void> | null} */
  #closing = null
  /** Set at the end, with its cause. @type {{error: Error | null} | null} */
  #over = null
  /** @type {(error: Error | null) => void} */
  #resolveClosed = () => {}
  #endPause = () => {}

  /**
   * Connects to the hub at peer, a ticket or NODEID@HOST:PORT. Resolves once the hub has accepted the spoke.
   * Rejects with a CloseError if the hub rejects the spoke or does not answer in time, with a TypeError for an
   * invalid peer or option, and with the signal's reason if it is aborted.
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
    try {
      spoke.#keep(await unlessAborted(connected, signal))
    } catch (error) {
      connected.catch(() => {})
      spoke.#isClosing = true
      spoke.#dialled?.abort(new CloseError(CloseCode.normal, 'given up'))
      if (!options.endpoint) release(endpoint).catch(() => {}) // not awaited: it may take 3 s
      throw error
    }
    return spoke
  }

  /**
   * For connect() only.
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

  /** The state of the spoke. `__state` reports each change. */
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
    if (same) return // the same as for any event target
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
   * Publishes the event's detail, an envelope whose topic is the event's type. It returns at once. Throws a
   * TypeError for an invalid event, the error that ended the spoke, or an error if the queue would exceed
   * maxOutbox. publish() waits instead.
   * @param {Detailed<Publication>} event
   */
  dispatchEvent({ type, detail }) {
    if (detail === null || typeof detail !== 'object' || topicOf(detail) !== type) {
      throw new TypeError(`the detail is not an envelope with the topic ${JSON.stringify(type)}`)
    }
    const bytes = encode(detail, this.#options.maxFrame)
    this.#checkOpen()
    const isFull = this.#unsent > 0 && this.#unsent + bytes.length > this.#options.maxOutbox
    if (isFull || this.#waiting.length > 0) throw new Error(`${this.#unsent} bytes are queued already`)
    this.#publish(bytes)
    return true
  }

  /**
   * Publishes an event. Resolves when the event is queued; flush() reports whether the hub has processed it. It
   * waits while more than 256 KiB are queued, for example while the spoke is disconnected. Rejects with a
   * TypeError for an invalid event, with the error that ended the spoke, or with the signal's reason; nothing
   * is published then.
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
   * Waits until the hub has processed every event published before. It also waits while the spoke is
   * disconnected. Rejects with the first problem with an event since the last flush(): the hub's refusal, or a
   * CloseError for a lost connection, after which events may be lost. Also rejects with the error that ended
   * the spoke, or with the signal's reason.
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
   * Resolves when the hub has acknowledged a topic that has a listener. From then on, every event that the
   * hub forwards arrives. It waits while the spoke is disconnected. Rejects with the hub's refusal.
   * @param {string} topic
   * @param {Cancellable} [options]
   * @returns {Promise<void>}
   */
  async subscribed(topic, options) {
    const signal = checkSignal(options)
    const state = this.#topics.get(topic)
    if (!state) throw new Error(`there is no listener for ${JSON.stringify(topic)}`)
    await unlessAborted(state.promise, signal)
  }

  /** The same as subscribed(), for every topic that has a listener now. @param {Cancellable} [options] */
  async ready(options) {
    const signal = checkSignal(options)
    await unlessAborted(Promise.all([...this.#topics.values()].map(({ promise }) => promise)), signal)
  }

  /**
   * Subscribes to topics. Resolves when the hub has acknowledged all of them. From then on, every event that
   * the hub forwards arrives. It waits while the spoke is disconnected. Rejects with the hub's refusal, the error
   * that ended the spoke, or the signal's reason; it leaves no subscription then. Once it has resolved, the
   * signal has no effect.
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
   * Like subscribe(), but returns at once, without waiting for the hub's acknowledgement. The loop throws the
   * hub's refusal. An aborted signal ends the loop, which throws the signal's reason.
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
   * Closes the spoke. It writes the queued events and waits until the hub has processed all of them. Events
   * that arrive until then are delivered. It rejects in these cases: closing failed; events were queued while
   * there was no connection; an earlier connection was lost with events that may not have arrived, and no
   * flush() has reported it; or another error had ended the spoke. Later calls return the same promise.
   * `closed` resolves with the error that close() rejects with.
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
        else if (unsent > 0) throw new CloseError(null, `closed without a connection; events not written: ${unsent}`)
        this.#taken = this.#written
      } catch (cause) {
        error = /** @type {Error} */ (cause)
      }
      await this.#end(error)
    }
    error = await this.closed
    if (error) throw error
  }

  /** @param {Error | null} error what ended the spoke; null after a successful close() */
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

  // --- writing

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
   * Takes the next frames for a link to write.
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
      if (owner && owner !== link) continue // for a link that has ended
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

  /** Reconnects whenever the link ends. @param {Link} link */
  async #keep(link) {
    const { reconnect, minBackoff, maxBackoff } = this.#options
    let pause = minBackoff
    for (;;) {
      const since = performance.now()
      const error = await link.ended
      if (!this.#isClosing || error.code !== CloseCode.normal || !link.whole) this.#account(link, error)
      if (this.#isClosing) return
      // tooMany after the hub had accepted this spoke means that a newer spoke has this NodeID.
      const reconnecting = reconnect && !isFinal(error) && error.code !== CloseCode.tooMany
      this.#lose(error)
      if (reconnecting) this.#setState('reconnecting', 1, error)
      this.#tell('__disconnect', { error, reconnecting })
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
            this.#tell('__disconnect', { error: failed, reconnecting: false })
            return this.#end(failed)
          }
          if (failed instanceof CloseError && failed.code === CloseCode.tooMany) pause = Math.max(pause, maxBackoff) // the hub is full
          this.#setState('reconnecting', this.#state.attempt + 1, failed)
        }
      }
    }
  }

  /**
   * Records that events may be lost with a link.
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

  /** Makes a link. Resolves when the hub has answered for all topics. */
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
    // A late connection is closed when it arrives. Until then it counts towards MAX_DIALS.
    if (this.#dials.size >= MAX_DIALS) await within(Promise.race(this.#dials), timeout, 'connecting')
    let isGivenUp = false
    /** @type {import('@number0/iroh').Connection | undefined} */
    let connection
    const dial = (async () => {
      try {
        connection = await call(this.#endpoint.connect(this.#address, Array.from(bytesOf(alpn))))
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

  /** Subscribes or unsubscribes, whatever the topic's state requires. @param {string} name */
  #ask(name) {
    const link = this.#link ?? this.#dialled
    link?.changed.add(name)
    link?.ask()
  }

  /**
   * Returns the next request: as many topics as fit, or an empty request for flush().
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
      if ((this.#link ?? this.#dialled) !== link || (error && !(error instanceof RefusedError))) return // the link has ended, which #keep handles
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
    // Unsubscribe later: if a listener is replaced or added again at once, there is no gap.
    queueMicrotask(() => {
      if (topic.entries.length > 0 || this.#topics.get(name) !== topic) return
      this.#topics.delete(name)
      topic.answer(new Error(`the last listener for ${JSON.stringify(name)} was removed`))
      this.#ask(name)
    })
  }

  /**
   * @param {Envelope} envelope
   * @param {string} text
   */
  #receive(envelope, text) {
    if (!this.#link?.up) return // before that, there may be gaps
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

/** Returns whether another attempt would fail in the same way. @param {Error} error */
function isFinal(error) {
  const { protocol, notAdmitted } = CloseCode
  return error instanceof CloseError && (error.code === protocol || error.code === notAdmitted)
}
