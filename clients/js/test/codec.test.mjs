import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { decode, encode, FrameReader, isTopic, matches, scan, topicOf } from '../spoke.mjs'
import { root } from './hub.mjs'

const vectors = JSON.parse(readFileSync(`${root}/docs/vectors/vectors.json`, 'utf8'))
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, 'hex'))
const text = (string) => new TextEncoder().encode(string)
const flaw = (name) => (error) => error.name === 'FrameError' && error.flaw === name

/** Reads a whole stream, in chunks of a size. */
function read(stream, size = stream.length) {
  const frames = new FrameReader(vectors.limits.max_frame)
  const bodies = []
  for (let at = 0; at < stream.length; at += size) bodies.push(...frames.push(stream.subarray(at, at + size)))
  frames.end()
  return bodies
}

/** What a hub reads in a request: here only for the vectors, as a spoke gets no requests. */
function request(envelope, payload) {
  if (envelope.type !== '__subscribe' && envelope.type !== '__unsubscribe') return { topics: null, refused: null }
  const wrong = { topics: null, refused: 'invalid_payload' }
  const value = payload === null ? null : JSON.parse(payload)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return wrong
  const names = scan(payload).names.filter((name) => name === 'topic' || name === 'topics')
  if (names.length !== 1) return wrong
  const topics = names[0] === 'topic' ? [value.topic] : value.topics
  if (!Array.isArray(topics) || topics.some((topic) => typeof topic !== 'string')) return wrong
  return { topics, refused: topics.every(isTopic) ? null : 'invalid_topic' }
}

describe('test vectors', () => {
  for (const v of vectors.valid) {
    test(`valid: ${v.name}`, () => {
      for (const size of [bytes(v.frame).length, 1, 3]) {
        const [body, ...more] = read(bytes(v.frame), size)
        assert.equal(more.length, 0)
        const envelope = decode(body)
        const payload = v.payload === null ? null : Buffer.from(v.payload, 'base64').toString()
        assert.equal(envelope.type, v.type)
        assert.equal(envelope.id, v.id)
        assert.equal(topicOf(envelope), v.topic)
        assert.equal(v.topic.split(':')[0], v.type_part)
        assert.equal(envelope.type.startsWith('__'), v.control)
        assert.deepEqual(envelope.payload, payload === null ? undefined : JSON.parse(payload))
        if (v.from !== undefined) assert.equal(envelope.from, v.from)
        assert.deepEqual(request(envelope, payload), { topics: v.topics, refused: v.refused })
        if (!v.control && isTopic(v.topic)) {
          const [again] = read(encode(envelope))
          assert.deepEqual(decode(again), { type: v.type, id: v.id, payload: envelope.payload })
        }
      }
    })
  }
  for (const v of vectors.invalid) {
    test(`invalid: ${v.name}`, () => {
      for (const size of [bytes(v.frame).length, 1, 3]) {
        assert.throws(() => read(bytes(v.frame), size).map(decode), flaw(v.reason))
      }
    })
  }
  for (const v of vectors.invalid_from_hub) {
    test(`invalid from a hub: ${v.name}`, () => {
      for (const size of [bytes(v.frame).length, 1]) assert.throws(() => read(bytes(v.frame), size).map(decode), flaw('from'))
    })
  }
  for (const v of vectors.topics) {
    test(`topic: ${v.name}`, () => {
      if (v.topic === null) {
        // Only as bytes, in a frame.
        const body = Buffer.concat([text('{"type":"'), bytes(v.hex), text('"}')])
        assert.throws(() => decode(body), flaw('utf8'))
      } else {
        assert.deepEqual(text(v.topic), bytes(v.hex))
        assert.equal(isTopic(v.topic), v.valid)
      }
    })
  }
  for (const v of vectors.matches) {
    test(`match: ${v.subscription} ${v.event}`, () => assert.equal(matches(v.subscription, v.event), v.match))
  }
})

describe('codec', () => {
  test('the bytes that the protocol shows', () => {
    const shown = '000000187b2274797065223a2261222c227061796c6f6164223a317d'
    assert.equal(Buffer.from(encode({ type: 'a', payload: 1 })).toString('hex'), shown)
  })

  test('several frames in a chunk, and one over several chunks', () => {
    const events = [1, 2, 3].map((n) => ({ type: 't', id: '', payload: 'x'.repeat(1000 * n) }))
    const stream = Buffer.concat(events.map((event) => encode(event)))
    for (const size of [1, 7, 1500, stream.length]) assert.deepEqual(read(stream, size).map(decode), events)
  })

  test('a length over the limit fails with its fourth byte', () => {
    const frames = new FrameReader(100)
    assert.deepEqual([...frames.push(bytes('000000'))], [])
    assert.throws(() => [...frames.push(bytes('65'))], flaw('length'))
  })

  test('the limit itself, less what a hub adds', () => {
    const event = (length) => ({ type: 't', payload: 'x'.repeat(length - '{"type":"t","payload":""}'.length) })
    const largest = encode(event((1 << 20) - 74))
    assert.equal(largest.length, 4 + (1 << 20) - 74)
    assert.equal(read(largest).length, 1)
    assert.throws(() => encode(event((1 << 20) - 73)), TypeError)
  })

  test('events that are not allowed', () => {
    let deep = 1
    for (let i = 0; i < 128; i++) deep = [deep]
    const circular = {}
    circular.self = circular
    for (const event of [
      {},
      { type: '' },
      { type: '', id: 'i' },
      { type: 't', id: 7 },
      { type: '__ack' },
      { type: '\ud83d' },
      { type: 't', id: '\ude00' },
      { type: 'a\nb' },
      { type: 't'.repeat(1025) },
      { type: 't', payload: deep },
      { type: 't', payload: 1n },
      { type: 't', payload: circular },
    ]) {
      assert.throws(() => encode(event), TypeError)
    }
    assert.ok(encode({ type: 't', payload: deep[0] }))
  })

  test('payloads come out as they went in', () => {
    for (const payload of [null, false, 0, '', [], {}, 'é😀\u2028\u0000"\\', '\ud83d', 1e300, { type: 1, __proto__: null, id: [{}] }]) {
      assert.deepEqual(decode(encode({ type: 't', payload }).subarray(4)).payload, JSON.parse(JSON.stringify(payload)))
    }
    assert.equal(decode(encode({ type: 't' }).subarray(4)).payload, undefined)
  })

  test('a number that a double cannot hold is rounded', () => {
    assert.equal(decode(text('{"type":"t","payload":9007199254740993}')).payload, 9007199254740992)
  })

  test('hostile frames of 1 MiB cost no stack and little time', () => {
    const n = 1 << 20
    assert.throws(() => decode(text('['.repeat(n / 2) + ']'.repeat(n / 2))), flaw('depth'))
    assert.throws(() => decode(text('['.repeat(n))), flaw('json'))
    assert.ok(decode(text(`{"type":"t","payload":"${'\\"'.repeat(n / 2 - 20)}"}`)))
    assert.ok(decode(text(`{"type":"t","payload":"${'\\\\'.repeat(n / 2 - 20)}"}`)))
    assert.ok(decode(text(`{"type":"__subscribe","payload":{"topics":[${'1,'.repeat(n / 2 - 100)}1]}}`)))
    assert.ok(decode(text(`{"type":"t"${',"x":1'.repeat(n / 6 - 10)}}`)))
  })
})
