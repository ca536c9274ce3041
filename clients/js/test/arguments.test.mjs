// What is no argument: a clear error, before anything goes out.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { SecretKey } from '@number0/iroh'
import { decode, encode, Spoke } from '../spoke.mjs'
import { fakeHub } from './fakehub.mjs'
import { cleanup, connect, rejection } from './hub.mjs'

const node = SecretKey.generate().public().toString()
const peer = `${node}@127.0.0.1:4433`
const nested = (levels) => {
  let value = 1
  for (let n = 0; n < levels; n++) value = [value]
  return value
}
const circular = {}
circular.self = circular

describe('arguments', { timeout: 60_000 }, () => {
  for (const [wrong, words] of [
    [undefined, /a peer must be a string, not undefined/],
    [7, /a peer must be a string, not number/],
    ['', /not a ticket/],
    ['nowhere', /not a ticket/],
    [`${peer}\n`, /white space/],
    [` ${peer}`, /white space/],
    [`${peer}, 127.0.0.1:1`, /white space/],
    [node, /without an address/],
    [`${node}@`, /HOST:PORT/],
    [`${node}@127.0.0.1`, /HOST:PORT/],
    [`${node}@example.org:4433`, /with an IP address as HOST/],
    [`${node}@127.0.0.1:99999`, /a port must be 1 to 65535, not 99999/],
    [`${node}@127.0.0.1:0`, /a port must be 1 to 65535, not 0/],
    [`${node}@127.0.0.1:-1`, /HOST:PORT/],
    [`${node}@300.0.0.1:4433`, /with an IP address as HOST/],
    [`${peer},[::1]:99999`, /not 99999/],
    [`${peer},[::1::2]:4433`, /with an IP address as HOST/],
    [`${node.slice(1)}@127.0.0.1:4433`, /64 hex digits/],
    ['x'.repeat(1 << 20), /…/],
  ]) {
    test(`no peer: ${JSON.stringify(wrong)?.slice(0, 90)}`, async () => {
      const error = await rejection(Spoke.connect(wrong))
      assert.equal(error.name, 'TypeError')
      assert.match(error.message, words)
      assert.ok(error.message.length < 600)
    })
  }

  for (const [wrong, words] of [
    [null, /options must be an object/],
    ['n0', /options must be an object/],
    [{ secretkey: 'a' }, /there is no option "secretkey"/],
    [{ timeOut: 1 }, /there is no option "timeOut"/],
    [{ toString: 1 }, /there is no option "toString"/],
    [{ secretKey: 7 }, /secretKey/],
    [{ secretKey: [1, 2] }, /secretKey/],
    [{ secretKey: new ArrayBuffer(32) }, /secretKey/],
    [{ secretKey: new Uint8Array(31) }, /secretKey/],
    [{ secretKey: 'short' }, /secretKey/],
    [{ secretKey: 'g'.repeat(64) }, /secretKey/],
    [{ secretKey: null }, /secretKey/],
    [{ endpoint: {} }, /endpoint/],
    [{ bindAddr: 7 }, /bindAddr/],
    [{ bindAddr: '127.0.0.1:99999' }, /bindAddr/],
    [{ bindAddr: 'nowhere' }, /bindAddr/],
    [{ relays: 'all' }, /relays/],
    [{ signal: {} }, /signal/],
    [{ alpn: '' }, /alpn/],
    [{ reconnect: 'no' }, /reconnect/],
    [{ timeout: 1 }, /there is no option "timeout"/],
    [{ handshakeTimeout: 0 }, /handshakeTimeout must be a number from 1 to/],
    [{ handshakeTimeout: NaN }, /handshakeTimeout/],
    [{ writeTimeout: Infinity }, /writeTimeout/],
    [{ writeTimeout: '5' }, /writeTimeout/],
    [{ minBackoff: -1 }, /minBackoff/],
    [{ maxBackoff: 2 ** 31 }, /maxBackoff/],
    [{ maxFrame: 4095 }, /maxFrame must be a number from 4096 to/],
    [{ maxQueue: 0 }, /maxQueue/],
    [{ maxOutbox: 'much' }, /maxOutbox/],
  ]) {
    test(`no options: ${JSON.stringify(wrong)}`, async () => {
      const error = await rejection(Spoke.connect(peer, wrong))
      assert.equal(error.name, 'TypeError')
      assert.match(error.message, words)
      assert.doesNotMatch(error.message, /gggg/) // a key is not shown
    })
  }

  test('no event; and nothing goes out', async (t) => {
    const hub = await fakeHub(t)
    const [other, spoke] = await Promise.all([hub.admit(), connect(t, hub.peer)])
    cleanup(t, () => other.close(0))
    for (const [wrong, words] of [
      [undefined, /an event must be an object/],
      [null, /an event must be an object/],
      ['a', /an event must be an object/],
      [{}, /type must be a string, not undefined/],
      [{ type: 7 }, /type must be a string, not number/],
      [{ type: '' }, /not a topic/],
      [{ type: '__ack' }, /not a topic/],
      [{ type: 'a\u0007' }, /not a topic/],
      [{ type: 'a\ud83d' }, /not a topic/],
      [{ type: 'é'.repeat(513) }, /not a topic/],
      [{ type: 'a', id: null }, /id must be a string, not null/],
      [{ type: 'a', id: 5 }, /id must be a string, not number/],
      [{ type: 'a', id: '\ude00' }, /not a topic/],
      [{ type: 'a', payload: NaN }, /JSON has no NaN/],
      [{ type: 'a', payload: { n: [1, -Infinity] } }, /JSON has no -Infinity, the value of "1"/],
      [{ type: 'a', payload: new Number(NaN) }, /JSON has no NaN/],
      [{ type: 'a', payload: 1n }, /BigInt/],
      [{ type: 'a', payload: circular }, /circular/],
      [{ type: 'a', payload: () => {} }, /a JSON value, not function/],
      [{ type: 'a', payload: Symbol('s') }, /a JSON value, not symbol/],
      [{ type: 'a', payload: nested(128) }, /nested more than 127 levels deep/],
      [{ type: 'a', payload: nested(1e5) }, /nested more than 127 levels deep/],
      [{ type: 'a', payload: 'x'.repeat(1 << 20) }, /at most 1048502 are allowed/],
    ]) {
      const error = await rejection(spoke.publish(wrong))
      assert.equal(error.name, 'TypeError', String(error))
      assert.match(error.message, words)
      assert.throws(() => encode(wrong), words)
    }
    for (const call of [(o) => spoke.flush(o), (o) => spoke.ready(o), (o) => spoke.publish({ type: 'b' }, o), (o) => spoke.subscribed('b', o)]) {
      assert.match(String(await rejection(call({ timeout: 5 }))), /TypeError: there is no option "timeout"/)
      assert.match(String(await rejection(call({ signal: {} }))), /TypeError: the option signal must be an AbortSignal/)
      assert.match(String(await rejection(call(null))), /TypeError: options must be an object, not null/)
    }
    assert.throws(() => spoke.events('b', { timeout: 5 }), /TypeError: there is no option "timeout"/)
    assert.match(String(await rejection(spoke.subscribe('b', { signal: 5 }))), /TypeError: the option signal must be/)
    assert.match(String(await rejection(spoke.subscribe({}))), /TypeError: not a topic/)
    for (const wrong of [undefined, null, 7, Symbol('s'), ['a']]) {
      assert.throws(() => spoke.addEventListener(wrong, () => {}), { name: 'TypeError', message: /not a topic/ })
      assert.throws(() => spoke.events(wrong), { name: 'TypeError', message: /not a topic/ })
    }
    await spoke.publish({ type: 'a', payload: nested(127) })
    assert.deepEqual((await other.next()).payload, nested(127)) // it is the first that came
  })

  test('a number that is too large for a double is Infinity, and is not sent back as null', () => {
    const event = decode(new TextEncoder().encode('{"type":"t","payload":{"n":1e400}}'))
    assert.equal(event.payload.n, Infinity)
    assert.throws(() => encode(event), { name: 'TypeError', message: 'JSON has no Infinity, the value of "n"' })
    assert.ok(encode({ type: 't', payload: { n: null, text: 'null NaN', date: new Date(NaN) } }))
  })
})
