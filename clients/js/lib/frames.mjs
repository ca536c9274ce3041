// Events and topics, errors, and frames.

/**
 * An event as received from the hub.
 * @typedef {object} Envelope
 * @property {string} type
 * @property {string} id `''` if the event has none
 * @property {unknown} payload `undefined` if the event has none. JSON.parse decodes it: a number that does not
 *   fit a double is rounded, a too large one (1e400) is Infinity, and of repeated members the last one counts.
 * @property {string} [from] the NodeID of the publisher, which the hub has verified; missing if the event is
 *   the hub's own
 */

/**
 * An event to publish. The topic is `type`, or `type:id` if there is an `id`. `payload` is anything that
 * JSON.stringify accepts, except NaN and Infinity, which JSON.stringify would replace by null.
 * @typedef {{type: string, id?: string, payload?: unknown}} Publication
 */

// --- Topics ---

const encoder = new TextEncoder()
/** @param {string} text @returns {Uint8Array<ArrayBuffer>} */
export const bytesOf = (text) => encoder.encode(text)
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

const MAX_TOPIC = 1024

/** Returns the topic of an event. @param {Publication} event */
export function topicOf({ type, id }) {
  return id ? `${type}:${id}` : type
}

/** Returns whether a topic is valid. @param {string} topic */
export function isTopic(topic) {
  return (
    typeof topic === 'string' &&
    !topic.startsWith('__') &&
    !/[\u0000-\u001f\u007f-\u009f]/.test(topic) &&
    topic.isWellFormed() &&
    topic.length > 0 &&
    encoder.encode(topic).length <= MAX_TOPIC
  )
}

/**
 * Returns the pattern that matches a topic: `T:*`, where T is the part before the first colon.
 * @param {string} topic
 */
export function patternOf(topic) {
  const colon = topic.indexOf(':')
  return `${colon < 0 ? topic : topic.slice(0, colon)}:*`
}

/**
 * Returns whether a subscription receives the events of a topic.
 * @param {string} subscription
 * @param {string} topic
 */
export function matches(subscription, topic) {
  return subscription === topic || subscription === patternOf(topic)
}

// --- Errors ---

/** The close codes of a connection. */
export const CloseCode = Object.freeze({
  normal: 0,
  shutdown: 1,
  protocol: 2,
  notAdmitted: 3,
  tooSlow: 4,
  tooMany: 5, // over a limit on connections, streams or spokes; or replaced by a newer one with the same NodeID
  timeout: 6,
})

const closeNames = ['Closed', 'HubShutdown', 'ProtocolError', 'NotAdmitted', 'TooSlow', 'TooMany', 'Timeout']

/** Why a connection ended. The name depends on the code: NotAdmitted, TooSlow, ConnectionLost … */
export class CloseError extends Error {
  /**
   * @param {number | null} code one of CloseCode, or a code of a later version; null: lost without a code
   * @param {string} reason human-readable
   * @param {unknown} [cause]
   */
  constructor(code, reason, cause) {
    super(code === null ? reason : `${reason || 'closed'} (code ${code})`, { cause })
    this.name = code === null ? 'ConnectionLost' : (closeNames[code] ?? 'CloseError')
    this.code = code
    this.reason = reason
  }
}

/** The hub refused a topic or a published event. */
export class RefusedError extends Error {
  /** @param {any} payload the payload of `__error` */
  constructor(payload) {
    const text = (/** @type {string} */ name) => (typeof payload?.[name] === 'string' ? payload[name] : '')
    super(`refused: ${text('code')} ${JSON.stringify(text('topic'))}: ${text('message')}`)
    this.name = 'RefusedError'
    /** forbidden, invalid_topic, too_many_subscriptions, invalid_payload, or a code of a later version */
    this.code = text('code')
    this.topic = text('topic')
  }
}

/** The error for bytes that are not a valid frame. */
export class FrameError extends Error {
  /**
   * @param {'length'|'truncated'|'utf8'|'json'|'depth'|'not_object'|'type'|'id'|'from'|'repeated'|'surrogate'} flaw
   * @param {string} message
   */
  constructor(flaw, message) {
    super(message)
    this.name = 'FrameError'
    this.flaw = flaw
  }
}

// --- Frames ---

export const MAX_FRAME = 1 << 20
const MAX_DEPTH = 128
export const FROM = 74 // bytes of the member "from", which a hub adds
export const ANSWER = (4 << 10) + 64 // the most bytes in a hub's answer, regardless of maxFrame; 64 are for the id

/**
 * Returns the names of an object's members in order, and its nesting depth. JSON.parse reports neither.
 * @param {string} text valid JSON
 */
export function scan(text) {
  /** @type {string[]} */
  const names = []
  let depth = 0
  let deepest = 0
  let before = '' // at depth 1: '{' or '[', or ':' after a name
  for (let i = 0; i < text.length; i++) {
    const c = text[i]
    if (c === '"') {
      const start = i
      do i = text.indexOf('"', i + 1)
      while (isEscaped(text, i))
      if (depth === 1 && before === '{') {
        names.push(JSON.parse(text.slice(start, i + 1)))
        before = ':' // the value comes next
      }
    } else if (c === '{' || c === '[') {
      if (++depth === 1) before = c
      deepest = Math.max(deepest, depth)
    } else if (c === '}' || c === ']') {
      depth--
    } else if (c === ',' && depth === 1 && before === ':') {
      before = '{'
    }
  }
  return { names, depth: deepest }
}

/**
 * Returns whether the character at a position is escaped: an odd number of backslashes precedes it.
 * @param {string} text
 * @param {number} at
 */
function isEscaped(text, at) {
  let start = at
  while (text[start - 1] === '\\') start--
  return (at - start) % 2 === 1
}

/**
 * Decodes the body of a frame. Throws a FrameError.
 * @param {Uint8Array} body
 * @returns {Envelope}
 */
export function decode(body) {
  return parse(body).envelope
}

/**
 * Reads what a frame holds.
 * @param {Uint8Array} body
 * @returns {{envelope: Envelope, text: string}}
 */
export function parse(body) {
  let text, value
  try {
    text = decoder.decode(body)
  } catch {
    throw new FrameError('utf8', 'not UTF-8')
  }
  try {
    value = JSON.parse(text)
  } catch {
    throw new FrameError('json', 'not JSON')
  }
  const { names, depth } = scan(text)
  if (depth > MAX_DEPTH) throw new FrameError('depth', `nested more than ${MAX_DEPTH} levels deep`)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FrameError('not_object', 'not an object')
  }
  for (const name of ['type', 'id', 'payload', 'from']) {
    if (names.indexOf(name) !== names.lastIndexOf(name)) throw new FrameError('repeated', `${name} is repeated`)
  }
  const { type, id = '', payload, from } = value
  if (typeof type !== 'string' || type === '') throw new FrameError('type', 'type is not a string, or is empty')
  if (typeof id !== 'string') throw new FrameError('id', 'id is not a string')
  const requests = type === '__subscribe' || type === '__unsubscribe'
  const strings = requests ? [type, id].concat(payload?.topic, payload?.topics) : [type, id]
  if (strings.some((s) => typeof s === 'string' && !s.isWellFormed())) {
    throw new FrameError('surrogate', 'an unpaired surrogate')
  }
  const isEvent = !type.startsWith('__')
  if (isEvent && Object.hasOwn(value, 'from') && !(typeof from === 'string' && /^[0-9a-f]{64}$/.test(from))) {
    throw new FrameError('from', 'from is not a NodeID')
  }
  return { envelope: envelopeOf(value), text }
}

/**
 * @param {any} value the result of JSON.parse for a valid envelope
 * @returns {Envelope}
 */
export function envelopeOf({ type, id = '', payload, from }) {
  return { type, id, payload, ...(from && !type.startsWith('__') && { from }) }
}

/**
 * Encodes an event as a frame. Throws a TypeError for an invalid event.
 * @param {Publication} event
 * @param {number} [maxFrame]
 */
export function encode(event, maxFrame = MAX_FRAME) {
  if (event === null || typeof event !== 'object') throw new TypeError('an event must be an object with a type')
  const { type, id = '', payload } = event
  if (typeof type !== 'string') throw new TypeError(`an event's type must be a string, not ${kindOf(type)}`)
  if (typeof id !== 'string') throw new TypeError(`an event's id must be a string, not ${kindOf(id)}`)
  const topic = topicOf({ type, id })
  if (type === '' || !isTopic(topic)) throw new TypeError(`not a topic: ${JSON.stringify(topic)}`)
  if (typeof payload === 'function' || typeof payload === 'symbol') {
    throw new TypeError(`a payload must be a JSON value, not ${kindOf(payload)}`)
  }
  return frame({ type, id, payload }, maxFrame - FROM)
}

/** @param {unknown} value */
export function shown(value) {
  return typeof value === 'string' ? JSON.stringify(value) : kindOf(value)
}

/** @param {unknown} value */
export function kindOf(value) {
  return value === null ? 'null' : typeof value === 'object' ? (value.constructor?.name ?? 'an object') : typeof value
}

/**
 * @param {Publication} event
 * @param {number} maxFrame
 */
export function frame({ type, id, payload }, maxFrame) {
  const text = toJSON({ type, id: id || undefined, payload })
  if (scan(text).depth > MAX_DEPTH) throw new TypeError(`the payload is nested more than ${MAX_DEPTH - 1} levels deep`)
  const body = encoder.encode(text)
  if (body.length > maxFrame) throw new TypeError(`the event has ${body.length} bytes; at most ${maxFrame} are allowed`)
  const bytes = new Uint8Array(4 + body.length)
  new DataView(bytes.buffer).setUint32(0, body.length)
  bytes.set(body, 4)
  return bytes
}

/** Like JSON.stringify, but throws for numbers that it would replace by null. @param {unknown} value */
function toJSON(value) {
  try {
    const text = JSON.stringify(value)
    // Text without null, the usual case, needs no second pass, which is slow.
    return text.includes('null') ? JSON.stringify(value, refuseNonFinite) : text
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    throw new TypeError(`the payload is nested more than ${MAX_DEPTH - 1} levels deep`, { cause })
  }
}

/** @param {string} name @param {unknown} value */
function refuseNonFinite(name, value) {
  if ((typeof value === 'number' || value instanceof Number) && !Number.isFinite(Number(value))) {
    throw new TypeError(`JSON has no ${value}${name && `, the value of ${JSON.stringify(name)}`}`)
  }
  return value
}

/** Splits a stream of bytes into frames. */
export class FrameReader {
  #maxFrame
  #header = 0 // bytes of the length read so far
  #length = 0
  /** @type {Uint8Array | null} */
  #body = null
  #filled = 0

  constructor(maxFrame = MAX_FRAME) {
    this.#maxFrame = maxFrame
  }

  /** Yields the body of each frame that the chunk completes. Throws a FrameError. @param {Uint8Array} chunk */
  *push(chunk) {
    for (let at = 0; at < chunk.length; ) {
      if (this.#body === null) {
        this.#length = this.#length * 256 + chunk[at++]
        if (++this.#header < 4) continue
        if (this.#length < 1 || this.#length > this.#maxFrame) {
          throw new FrameError('length', `a frame of ${this.#length} bytes; 1 to ${this.#maxFrame} are allowed`)
        }
        this.#body = new Uint8Array(this.#length) // allocated only after the check
        continue
      }
      const part = chunk.subarray(at, at + this.#length - this.#filled)
      this.#body.set(part, this.#filled)
      this.#filled += part.length
      at += part.length
      if (this.#filled < this.#length) continue
      const body = this.#body
      this.#header = this.#length = this.#filled = 0
      this.#body = null
      yield body
    }
  }

  /** Throws a FrameError if the stream ends inside a frame here. */
  end() {
    if (this.#header > 0) throw new FrameError('truncated', 'the stream ended inside a frame')
  }
}
