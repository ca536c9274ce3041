// What every spoke does, whatever its transport.
import { encode, isTopic, patternOf, shown, topicOf } from './frames.mjs'
import { checkSignal, DEFAULTS, split } from './options.mjs'
import { Session } from './session.mjs'
import { Loop } from './subscription.mjs'
import { unlessAborted } from './time.mjs'

/** @typedef {import('./frames.mjs').Envelope} Envelope */
/** @typedef {import('./frames.mjs').Publication} Publication */
/** @typedef {import('./frames.mjs').RefusedError} RefusedError */
/** @typedef {import('./options.mjs').Cancellable} Cancellable */
/** @typedef {import('./options.mjs').SpokeOptions} SpokeOptions */
/** @typedef {import('./session.mjs').State} State */
/** @typedef {import('./session.mjs').Transport} Transport */
/** @typedef {import('./subscription.mjs').Subscription} Subscription */

/**
 * The detail of `__disconnect`: why the connection ended, and whether the spoke reconnects.
 * @typedef {{error: Error, reconnecting: boolean}} Disconnect
 */

/**
 * The detail of `__reconnect`: how many attempts it took.
 * @typedef {{attempts: number}} Reconnect
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

const lifecycle = ['__state', '__disconnect', '__reconnect', '__error']

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
export class BaseSpoke extends EventTarget {
  /** The NodeID of this spoke. */
  node
  /** The NodeID of the hub. */
  hub
  /** Resolves when the spoke ends: with null after close(), otherwise with the error that ended it or that close() rejects with. */
  closed

  #options
  #session
  /** @type {Set<Loop>} */
  #loops = new Set()
  #text = '' // the text of the event that is being delivered
  /** What ended the spoke; null after close(). @type {Error | null} */
  #error = null

  /**
   * For connect() only.
   * @protected
   * @param {Transport} transport
   * @param {SpokeOptions} options
   */
  constructor(transport, options) {
    super()
    const given = Object.entries(options).filter(([, value]) => value !== undefined)
    this.#options = { ...DEFAULTS, ...Object.fromEntries(given) }
    this.#session = new Session(transport, this.#options, {
      tell: (type, detail) => this.#tell(type, detail),
      event: (envelope, text) => this.#receive(envelope, text),
      refused: (name, error) => {
        for (const loop of this.#loops) if (loop.topics.includes(name)) loop.end(error)
      },
      ended: (error) => {
        this.#error = error
        for (const loop of this.#loops) loop.end(error)
      },
    })
    this.node = transport.node
    this.hub = transport.hub
    this.closed = this.#session.closed
  }

  /**
   * Connects. For connect() only.
   * @protected
   * @param {AbortSignal} [signal]
   */
  start(signal) {
    return this.#session.start(signal)
  }

  /** The state of the spoke. `__state` reports each change. */
  get state() {
    return this.#session.state
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

    const { topics, isOver, lost } = this.#session
    let topic = topics.get(type)
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
    topic = topics.add(type)
    topic.entries.push(entry)
    if (isOver) topic.answer(lost)
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
    const entry = this.#session.topics.get(type)?.entries.find((e) => e.listener === listener && e.capture === capture)
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
    this.#session.checkOpen()
    const { outbox } = this.#session
    if (outbox.exceeds(bytes.length, this.#options.maxOutbox)) throw new Error(`${outbox.unsent} bytes are queued already`)
    outbox.publish(bytes)
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
    this.#session.checkOpen()
    const { outbox } = this.#session
    if (outbox.isFull) await outbox.publishLater(bytes, signal)
    else outbox.publish(bytes)
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
    const link = await this.#session.connected(signal)
    const { outbox } = this.#session
    const { published } = outbox
    /** @type {Promise<void>} */
    const flushed = new Promise((resolve, reject) => {
      link.flush((error) => {
        if (!error) return resolve()
        if (!signal?.aborted) link.told = Math.max(link.told, published)
        reject(error)
      })
    })
    await unlessAborted(flushed, signal)
    const trouble = outbox.settle()
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
    const state = this.#session.topics.get(topic)
    if (!state) throw new Error(`there is no listener for ${JSON.stringify(topic)}`)
    await unlessAborted(state.promise, signal)
  }

  /** The same as subscribed(), for every topic that has a listener now. @param {Cancellable} [options] */
  async ready(options) {
    const signal = checkSignal(options)
    await unlessAborted(Promise.all(this.#session.topics.answers), signal)
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
    this.#session.checkOpen()
    const loop = this.#subscribe(names)
    try {
      await unlessAborted(Promise.all(loop.topics.map((name) => this.#session.topics.get(name)?.promise)), signal)
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
    if (loop.signal.aborted) return loop // the spoke is closed: nothing would remove a listener
    const abort = () => loop.end(signal?.reason)
    signal?.addEventListener('abort', abort)
    loop.signal.addEventListener('abort', () => signal?.removeEventListener('abort', abort))
    return loop
  }

  /** @param {string[]} names */
  #subscribe(names) {
    const loop = new Loop(names, this.#options.maxQueue, () => this.#loops.delete(loop))
    if (this.#session.isOver) loop.end(this.#error)
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
    return this.#session.close()
  }

  /**
   * @param {string} name
   * @param {import('./topics.mjs').Topic['entries'][0]} entry
   */
  #remove(name, entry) {
    const { topics } = this.#session
    const topic = topics.get(name)
    const at = topic ? topic.entries.indexOf(entry) : -1
    if (!topic || at < 0) return
    topic.entries.splice(at, 1)
    entry.forget()
    super.removeEventListener(name, entry.handler, entry.capture)
    if (topic.entries.length > 0) return
    // Unsubscribe later: if a listener is replaced or added again at once, there is no gap.
    queueMicrotask(() => {
      if (topic.entries.length > 0 || topics.get(name) !== topic) return
      topic.answer(new Error(`the last listener for ${JSON.stringify(name)} was removed`))
      topics.remove(name)
    })
  }

  /**
   * @param {Envelope} envelope
   * @param {string} text
   */
  #receive(envelope, text) {
    if (!this.#session.link?.up) return // before that, there may be gaps
    this.#text = text
    const topic = topicOf(envelope)
    const pattern = patternOf(topic)
    for (const name of topic === pattern ? [topic] : [topic, pattern]) {
      if (this.#session.topics.get(name)?.acknowledged) this.#tell(name, envelope)
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
