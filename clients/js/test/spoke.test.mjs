// What a spoke does, seen from the other end: a hub in this process that follows a script.
import assert from 'node:assert/strict'
import { getEventListeners, once } from 'node:events'
import { describe, test } from 'node:test'
import { Endpoint } from '@number0/iroh'
import { Spoke } from '../spoke.mjs'
import { bind, fakeHub } from './fakehub.mjs'
import { cleanup, connect, detail, rejection, testCodes } from './hub.mjs'

/** A spoke and its hub. */
async function pair(t, options) {
  const hub = await fakeHub(t)
  const [peer, spoke] = await Promise.all([hub.admit(), connect(t, hub.peer, options)])
  cleanup(t, () => peer.close(0)) // so that the spoke's end need not wait
  return { hub, peer, spoke }
}

const ignore = () => {}

describe('listeners', { timeout: 60_000 }, () => {
  test('the first one subscribes, the last one to go unsubscribes', async (t) => {
    const { peer, spoke } = await pair(t)
    const other = { handleEvent: ignore }
    spoke.addEventListener('a', ignore)
    spoke.addEventListener('a', ignore) // the same
    spoke.addEventListener('a', ignore, true) // another
    spoke.addEventListener('a', other)
    spoke.addEventListener('a', null)
    spoke.addEventListener('b', ignore)
    await peer.ack('__subscribe', 'a', 'b')
    await spoke.ready()
    spoke.removeEventListener('a', ignore)
    spoke.removeEventListener('a', ignore)
    spoke.removeEventListener('a', ignore, { capture: true })
    spoke.removeEventListener('b', ignore)
    await peer.ack('__unsubscribe', 'b')
    spoke.removeEventListener('a', other)
    await peer.ack('__unsubscribe', 'a')
    spoke.addEventListener('a', ignore)
    await peer.ack('__subscribe', 'a')
    await spoke.subscribed('a')
  })

  test('once counts', async (t) => {
    const { peer, spoke } = await pair(t)
    const got = []
    spoke.addEventListener('a', (event) => got.push(event.detail.payload), { once: true })
    spoke.addEventListener('b', ignore)
    await peer.ack('__subscribe', 'a', 'b')
    await spoke.ready()
    await peer.send({ type: 'a', payload: 1 }, { type: 'a', payload: 2 })
    await peer.ack('__unsubscribe', 'a')
    await assert.rejects(spoke.subscribed('a'), /there is no listener/)
    assert.deepEqual(got, [1])
  })

  test('one that is removed before its only event counts', async (t) => {
    const { peer, spoke } = await pair(t)
    spoke.addEventListener('a', ignore, { once: true })
    await peer.ack('__subscribe', 'a')
    spoke.removeEventListener('a', ignore)
    await peer.ack('__unsubscribe', 'a')
  })

  test('signal counts', async (t) => {
    const { peer, spoke } = await pair(t)
    const stop = new AbortController()
    spoke.addEventListener('a', ignore, { signal: stop.signal })
    spoke.addEventListener('a', () => {}, { signal: stop.signal, once: true })
    spoke.addEventListener('b', ignore, { signal: AbortSignal.abort() })
    await peer.ack('__subscribe', 'a')
    stop.abort()
    await peer.ack('__unsubscribe', 'a')
  })

  test('a signal ends what it was given with, not what came after', async (t) => {
    const { peer, spoke } = await pair(t)
    const stop = new AbortController()
    spoke.addEventListener('a', ignore, { signal: stop.signal })
    spoke.removeEventListener('a', ignore)
    spoke.addEventListener('a', ignore)
    stop.abort()
    spoke.addEventListener('b', ignore)
    await peer.ack('__subscribe', 'a', 'b')
  })

  test('one in the place of another makes no gap', async (t) => {
    const { peer, spoke } = await pair(t)
    const got = []
    const again = (event) => {
      got.push(event.detail.payload)
      spoke.addEventListener('a', again, { once: true })
    }
    spoke.addEventListener('a', again, { once: true })
    await peer.ack('__subscribe', 'a')
    await peer.send({ type: 'a', payload: 1 }, { type: 'a', payload: 2 }, { type: 'a', payload: 3 })
    const flushed = spoke.flush()
    await peer.ack('__subscribe')
    await flushed
    assert.deepEqual(got, [1, 2, 3])
  })

  test('a pattern gets all of its type, under its own name', async (t) => {
    const { peer, spoke } = await pair(t)
    const got = []
    const note = ({ type, detail }) => got.push(`${type} ${detail.payload}`)
    for (const topic of ['a', 'a:*', 'a:1', 'b:*']) {
      spoke.addEventListener(topic, note)
      await peer.ack('__subscribe', topic)
    }
    await peer.send(
      { type: 'a', payload: 1 },
      { type: 'a', id: '1', payload: 2 },
      { type: 'a', id: '2', payload: 3 },
      { type: 'a', id: '*', payload: 4 },
      { type: 'c', payload: 5 },
    )
    const flushed = spoke.flush()
    await peer.ack('__subscribe')
    await flushed
    assert.deepEqual(got, ['a 1', 'a:* 1', 'a:1 2', 'a:* 2', 'a:* 3', 'a:* 4'])
  })

  test('nothing comes from before the acknowledgement', async (t) => {
    const { peer, spoke } = await pair(t)
    const got = []
    spoke.addEventListener('a', (event) => got.push(event.detail.payload))
    const id = await peer.request('__subscribe', 'a')
    await peer.send({ type: 'a', payload: 1 }, { type: '__ack', id }, { type: 'a', payload: 2 })
    const flushed = spoke.flush()
    await peer.ack('__subscribe')
    await flushed
    assert.deepEqual(got, [2])
  })

  test('names that are no topics', async (t) => {
    const { spoke } = await pair(t)
    for (const name of ['', '__ack', '__', 'a\n', '\ud83d', 't'.repeat(1025)]) {
      assert.throws(() => spoke.addEventListener(name, ignore), TypeError)
      assert.throws(() => spoke.events('a', name), TypeError)
    }
    assert.throws(() => spoke.events(), TypeError)
  })
})

describe('loops', { timeout: 60_000 }, () => {
  test('an event that comes in two ways comes once', async (t) => {
    const { peer, spoke } = await pair(t)
    const loop = spoke.events('a:*', 'a:1')
    await peer.ack('__subscribe', 'a:*', 'a:1')
    const first = loop.next()
    await peer.send(...[1, 2, 3].map((n) => ({ type: 'a', id: '1', payload: n })))
    assert.deepEqual((await first).value, { type: 'a', id: '1', payload: 1 })
    assert.equal((await loop.next()).value.payload, 2)
    assert.equal((await loop.next()).value.payload, 3)
    await loop.return()
    await peer.ack('__unsubscribe', 'a:*', 'a:1')
    assert.deepEqual(await loop.next(), { value: undefined, done: true })
  })

  test('break unsubscribes', async (t) => {
    const { peer, spoke } = await pair(t)
    const first = (async () => {
      for await (const event of spoke.events('a')) return event
    })()
    await peer.ack('__subscribe', 'a')
    await peer.send({ type: 'a', payload: 1 }, { type: 'a', payload: 2 })
    assert.equal((await first).payload, 1)
    await peer.ack('__unsubscribe', 'a')
  })

  test('a refusal ends the loop with an error', async (t) => {
    const { peer, spoke } = await pair(t)
    const loop = spoke.events('a', 'b')
    const told = detail(spoke, '__error')
    const next = rejection(loop.next())
    const id = await peer.request('__subscribe', 'a', 'b')
    const payload = { code: 'of a later version', topic: 'b', message: 'words' }
    await peer.send({ type: '__error', id, payload })
    const error = await next
    assert.equal(error.name, 'RefusedError')
    assert.equal(error.code, 'of a later version')
    assert.equal(error.topic, 'b')
    assert.equal(await told, error)
    // Nothing of the request was carried out, and nobody listens to the other one any more.
    const flushed = spoke.flush()
    await peer.ack('__subscribe')
    await flushed
  })

  test('the end of the spoke ends it behind what has come', async (t) => {
    const { peer, spoke } = await pair(t)
    const loop = spoke.events('a')
    await peer.ack('__subscribe', 'a')
    const closed = spoke.close()
    assert.equal(await peer.next(), null)
    await peer.send({ type: 'a', payload: 1 }, { type: 'a', payload: 2 })
    await peer.finish()
    await closed
    const got = []
    for await (const { payload } of loop) got.push(payload)
    assert.deepEqual(got, [1, 2])
    for await (const event of spoke.events('a')) assert.fail(event)
  })

  test('one that is behind ends, alone', async (t) => {
    const { peer, spoke } = await pair(t, { maxQueue: 100_000 })
    const loop = spoke.events('a')
    const other = spoke.events('b')
    await peer.ack('__subscribe', 'a', 'b')
    await spoke.ready()
    for (let n = 0; n < 100; n++) await peer.send({ type: 'a', payload: [n, 'x'.repeat(20_000)] })
    await peer.ack('__unsubscribe', 'a')
    await peer.send({ type: 'b' })
    assert.equal((await other.next()).value.type, 'b')
    for (let n = 0; n < 4; n++) assert.equal((await loop.next()).value.payload[0], n)
    const error = await rejection(loop.next())
    assert.deepEqual([error.name, error.code], ['TooSlow', 4])
    const size = JSON.stringify({ type: 'a', payload: [0, 'x'.repeat(20_000)] }).length + 96
    assert.equal(error.reason, `the next event of ${size} bytes does not fit beside ${4 * size} bytes that wait; the limit is 100000`)
    assert.deepEqual(await loop.next(), { value: undefined, done: true })
  })

  test('one event may be larger than what may wait', async (t) => {
    const { peer, spoke } = await pair(t, { maxQueue: 1 })
    const loop = spoke.events('a')
    await peer.ack('__subscribe', 'a')
    for (let n = 0; n < 3; n++) {
      await peer.send({ type: 'a', payload: [n, 'x'.repeat(100_000)] })
      assert.equal((await loop.next()).value.payload[0], n)
    }
  })

  test('subscribe resolves with the acknowledgement', async (t) => {
    const { peer, spoke } = await pair(t)
    const subscribing = spoke.subscribe('a', 'b:*')
    const id = await peer.request('__subscribe', 'a', 'b:*')
    assert.equal(await Promise.race([subscribing, Promise.resolve('not yet')]), 'not yet')
    await peer.send({ type: '__ack', id }, { type: 'b', id: '1', payload: 1 })
    const events = await subscribing
    assert.deepEqual(events.topics, ['a', 'b:*'])
    assert.equal((await events.next()).value.payload, 1)
    events.close()
    await peer.ack('__unsubscribe', 'a', 'b:*')
    assert.deepEqual(await events.next(), { value: undefined, done: true })
  })

  test('subscribe rejects with the refusal, and leaves nothing', async (t) => {
    const { peer, spoke } = await pair(t)
    const refused = rejection(spoke.subscribe('a', 'b'))
    const id = await peer.request('__subscribe', 'a', 'b')
    await peer.send({ type: '__error', id, payload: { code: 'forbidden', topic: 'b', message: 'words' } })
    assert.equal((await refused).topic, 'b')
    const flushed = spoke.flush()
    await peer.ack('__subscribe')
    await flushed
    await assert.rejects(spoke.subscribed('a'), /there is no listener/)
  })
})

describe('signals', { timeout: 60_000 }, () => {
  const reason = new Error('enough')

  test('a loop leaves nothing on its signal, on a closed spoke either', async (t) => {
    const { peer, spoke } = await pair(t)
    const { signal } = new AbortController()
    const loop = spoke.events('a', { signal })
    assert.equal(getEventListeners(signal, 'abort').length, 1)
    loop.close()
    assert.equal(getEventListeners(signal, 'abort').length, 0)
    peer.close(0)
    await spoke.close().catch(ignore)
    spoke.events('a', { signal })
    assert.equal(getEventListeners(signal, 'abort').length, 0)
  })

  testCodes('end every call that waits', async (t) => {
    const { hub, peer, spoke } = await pair(t, { minBackoff: 1, maxBackoff: 10 })
    const loop = spoke.events('kept')
    await peer.ack('__subscribe', 'kept')
    await spoke.ready()
    const lost = once(spoke, '__disconnect')
    peer.close(1)
    await lost
    await spoke.publish({ type: 'a', payload: 'x'.repeat(300_000) }) // the queue is full
    const stop = new AbortController()
    const { signal } = stop
    const calls = [
      spoke.publish({ type: 'never' }, { signal }),
      spoke.flush({ signal }),
      spoke.ready({ signal }),
      spoke.subscribed('kept', { signal }),
      spoke.subscribe('never', { signal }),
      spoke.events('never', { signal }).next(),
    ].map(rejection)
    const after = spoke.publish({ type: 'after' })
    stop.abort(reason)
    for (const call of calls) assert.equal(await call, reason)
    for (const call of [() => spoke.publish({ type: 'never' }, { signal }), () => spoke.flush({ signal }), () => spoke.subscribe('never', { signal })]) {
      assert.equal(await rejection(call()), reason)
    }
    const again = await hub.admit('kept')
    cleanup(t, () => again.close(0))
    assert.equal((await again.next()).type, 'a')
    await after
    assert.equal((await again.next()).type, 'after')
    loop.close()
    await again.ack('__unsubscribe', 'kept')
  })

  test('a flush that was given up leaves what it would have told to the next', async (t) => {
    const { peer, spoke } = await pair(t)
    const stop = new AbortController()
    const given = rejection(spoke.flush({ signal: stop.signal }))
    const id = await peer.request('__subscribe')
    stop.abort(reason)
    assert.equal(await given, reason)
    await peer.send({ type: '__error', payload: { code: 'forbidden', topic: 'a', message: 'words' } }, { type: '__ack', id })
    const next = rejection(spoke.flush())
    await peer.ack('__subscribe')
    assert.equal((await next).topic, 'a')
  })

  test('of subscribe are for the call alone, of events for the loop', async (t) => {
    const { peer, spoke } = await pair(t)
    const stop = new AbortController()
    const subscribing = spoke.subscribe('a', { signal: stop.signal })
    const loop = spoke.events('b', { signal: stop.signal })
    await peer.ack('__subscribe', 'a', 'b')
    const events = await subscribing
    await peer.send({ type: 'b', payload: 1 })
    assert.equal((await loop.next()).value.payload, 1)
    stop.abort(reason)
    assert.equal(await rejection(loop.next()), reason)
    await peer.ack('__unsubscribe', 'b')
    await peer.send({ type: 'a', payload: 2 })
    assert.equal((await events.next()).value.payload, 2)
  })
})

describe('publishing', { timeout: 60_000 }, () => {
  test('in order, by either way', async (t) => {
    const { peer, spoke } = await pair(t)
    spoke.publish({ type: 'a', id: 'i', payload: 1, from: 'me' })
    assert.equal(spoke.dispatchEvent(new CustomEvent('a:i', { detail: { type: 'a', id: 'i', payload: 2 } })), true)
    spoke.dispatchEvent(new CustomEvent('a', { detail: { type: 'a' } }))
    await spoke.publish({ type: 'a', id: '', payload: null })
    assert.deepEqual(await peer.next(), { type: 'a', id: 'i', payload: 1 })
    assert.deepEqual(await peer.next(), { type: 'a', id: 'i', payload: 2 })
    assert.deepEqual(await peer.next(), { type: 'a', id: '', payload: undefined })
    assert.deepEqual(await peer.next(), { type: 'a', id: '', payload: null })
  })

  test('what is not allowed', async (t) => {
    const { spoke } = await pair(t)
    for (const event of [
      new Event('a'),
      new CustomEvent('a'),
      new CustomEvent('a', { detail: { type: 'b' } }),
      new CustomEvent('__error', { detail: { type: '__error' } }),
    ]) {
      assert.throws(() => spoke.dispatchEvent(event), TypeError)
    }
    await assert.rejects(spoke.publish({ type: '__subscribe', payload: { topics: [] } }), TypeError)
    await assert.rejects(spoke.publish({ type: 'a', payload: 'x'.repeat(1 << 20) }), TypeError)
  })

  test('dispatchEvent is bounded', async (t) => {
    const { spoke } = await pair(t, { maxOutbox: 1000 })
    const event = new CustomEvent('a', { detail: { type: 'a', payload: 'x'.repeat(600) } })
    spoke.dispatchEvent(event)
    assert.throws(() => spoke.dispatchEvent(event), /queued/)
    await spoke.publish({ type: 'a' })
    spoke.dispatchEvent(event)
  })

  test('flush tells of the first refusal since the last one', async (t) => {
    const { peer, spoke } = await pair(t)
    const told = []
    spoke.addEventListener('__error', (event) => told.push(event.detail.topic))
    const first = rejection(spoke.flush())
    const id = await peer.request('__subscribe')
    for (const topic of ['a', 'b']) {
      await peer.send({ type: '__error', payload: { code: 'forbidden', topic, message: 'words' } })
    }
    await peer.send({ type: '__ack', id })
    assert.equal((await first).topic, 'a')
    const second = spoke.flush()
    await peer.ack('__subscribe')
    await second
    assert.deepEqual(told, ['a', 'b'])
  })
})

describe('the end', { timeout: 60_000 }, () => {
  test('close writes all, and waits for the hub', async (t) => {
    const { peer, spoke } = await pair(t)
    const got = []
    spoke.addEventListener('a', (event) => got.push(event.detail.payload))
    await peer.ack('__subscribe', 'a')
    for (let n = 0; n < 100; n++) spoke.dispatchEvent(new CustomEvent('b', { detail: { type: 'b', payload: 'x'.repeat(20_000) } }))
    let isClosed = false
    const closed = spoke.close().then(() => (isClosed = true))
    for (let n = 0; n < 100; n++) assert.equal((await peer.next()).type, 'b')
    assert.equal(await peer.next(), null)
    await peer.send({ type: 'a', payload: 'late' })
    assert.equal(isClosed, false)
    await peer.finish()
    await closed
    assert.deepEqual(got, ['late'])
    assert.equal(await spoke.closed, null)
    await spoke.close()
    await assert.rejects(spoke.publish({ type: 'a' }), { name: 'Closed' })
    await assert.rejects(spoke.flush(), { name: 'Closed' })
    await assert.rejects(spoke.subscribed('a'), { name: 'Closed' })
  })

  test('close says when the hub has not', async (t) => {
    const { spoke } = await pair(t, { writeTimeout: 2000 })
    const error = await rejection(spoke.close())
    assert.deepEqual([error.name, error.code], ['Timeout', 6])
    assert.equal(await spoke.closed, error)
  })

  testCodes('close says when the hub has ended in another way', async (t) => {
    const { peer, spoke } = await pair(t)
    const closed = rejection(spoke.close())
    assert.equal(await peer.next(), null)
    peer.close(6, 'late')
    assert.equal((await closed).code, 6)
  })

  for (const [code, name] of [
    [2, 'ProtocolError'],
    [3, 'NotAdmitted'],
    [5, 'TooMany'],
  ]) {
    testCodes(`code ${code} is for good`, async (t) => {
      const { peer, spoke } = await pair(t)
      const loop = spoke.events('a')
      await peer.ack('__subscribe', 'a')
      const lost = detail(spoke, '__disconnect')
      await peer.finish(code, 'words (code 9)')
      const { error, reconnecting } = await lost
      assert.equal(reconnecting, false)
      assert.deepEqual([error.name, error.code, error.reason], [name, code, 'words (code 9)'])
      assert.equal(await spoke.closed, error)
      assert.equal(await rejection(loop.next()), error)
      assert.equal(await rejection(spoke.publish({ type: 'a' })), error)
      assert.equal(await rejection(spoke.close()), error)
      assert.deepEqual(spoke.state, { name: 'closed', attempt: 0, error })
    })
  }

  for (const [code, name] of [
    [0, 'Closed'],
    [1, 'HubShutdown'],
    [4, 'TooSlow'],
    [6, 'Timeout'],
    [77, 'CloseError'],
  ]) {
    testCodes(`code ${code} is not`, async (t) => {
      const { hub, peer, spoke } = await pair(t)
      spoke.addEventListener('a', ignore)
      await peer.ack('__subscribe', 'a')
      const told = []
      const back = once(spoke, '__reconnect')
      spoke.addEventListener('__disconnect', ({ detail }) => {
        told.push(detail.error.name, detail.error.code, detail.reconnecting)
        spoke.addEventListener('b', ignore) // while there is no connection
      })
      spoke.addEventListener('__reconnect', () => told.push('back'))
      peer.close(code)
      const again = await hub.accept()
      cleanup(t, () => again.close(0))
      const id = await again.request('__subscribe', 'a', 'b')
      assert.deepEqual(told, [name, code, true])
      assert.equal((await rejection(Promise.race([spoke.subscribed('b'), Promise.reject('not yet')]))), 'not yet')
      await again.send({ type: '__ack', id })
      await spoke.ready()
      assert.equal(told.length, 3)
      await again.ack('__subscribe')
      await back
      assert.equal(told[3], 'back')
    })
  }

  testCodes('what comes before it is back is dropped', async (t) => {
    const { hub, peer, spoke } = await pair(t)
    const loop = spoke.events('a')
    await peer.ack('__subscribe', 'a')
    peer.close(1)
    const again = await hub.accept()
    cleanup(t, () => again.close(0))
    await again.ack('__subscribe', 'a')
    await again.send({ type: 'a', payload: 'before' })
    const id = await again.request('__subscribe')
    await again.send({ type: '__ack', id }, { type: 'a', payload: 'after' })
    assert.equal((await loop.next()).value.payload, 'after')
  })

  testCodes('a topic that is added before the spoke is back is requested too', async (t) => {
    const { hub, peer, spoke } = await pair(t)
    peer.close(1)
    const again = await hub.accept()
    cleanup(t, () => again.close(0))
    const id = await again.request('__subscribe')
    spoke.addEventListener('a', ignore)
    await again.ack('__subscribe', 'a')
    await again.send({ type: '__ack', id })
    await spoke.subscribed('a')
  })

  testCodes('without reconnect, any code is for good', async (t) => {
    const { peer, spoke } = await pair(t, { reconnect: false })
    peer.close(1)
    assert.equal((await spoke.closed).code, 1)
  })

  testCodes('an attempt that is turned away with too many is not the last; not admitted is', async (t) => {
    const { hub, peer, spoke } = await pair(t, { maxBackoff: 50 })
    peer.close(1)
    for (const code of [5, 5, 3]) (await hub.accept()).close(code)
    const states = []
    spoke.addEventListener('__state', ({ detail }) => states.push(detail))
    const error = await spoke.closed
    assert.equal(error.code, 3)
    // Those before may have been told while the test accepted.
    assert.deepEqual(states.at(-1), { name: 'closed', attempt: 0, error })
  })

  testCodes('the state tells of each attempt', async (t) => {
    const { hub, peer, spoke } = await pair(t, { maxBackoff: 50 })
    const states = []
    spoke.addEventListener('__state', ({ detail: { name, attempt, error } }) => states.push([name, attempt, error?.code]))
    assert.deepEqual(spoke.state, { name: 'connected', attempt: 0, error: null })
    const back = detail(spoke, '__reconnect')
    peer.close(1)
    for (const code of [5, 6]) (await hub.accept()).close(code)
    const again = await hub.admit()
    cleanup(t, () => again.close(0))
    assert.equal((await back).attempts, 3)
    assert.deepEqual(states, [['reconnecting', 1, 1], ['reconnecting', 2, 5], ['reconnecting', 3, 6], ['connected', 0, undefined]])
  })

  test('a stream that is aborted', async (t) => {
    const { peer, spoke } = await pair(t, { reconnect: false })
    await peer.stream.send.reset(5n)
    assert.equal((await spoke.closed).code, 5)
  })

  testCodes('close ends a pause', async (t) => {
    const { peer, spoke } = await pair(t, { minBackoff: 1e6, maxBackoff: 1e6 })
    const lost = once(spoke, '__disconnect')
    peer.close(1)
    await lost
    const flushed = rejection(spoke.flush())
    assert.equal(spoke.state.name, 'reconnecting')
    await spoke.close()
    assert.equal(await spoke.closed, null)
    assert.equal((await flushed).name, 'Closed')
    assert.deepEqual(spoke.state, { name: 'closed', attempt: 0, error: null })
  })

  testCodes('close without a connection says what is lost', async (t) => {
    const { peer, spoke } = await pair(t, { minBackoff: 1e6, maxBackoff: 1e6 })
    const lost = once(spoke, '__disconnect')
    peer.close(1)
    await lost
    await spoke.publish({ type: 'a' })
    const error = await rejection(spoke.close())
    assert.equal(error.reason, 'closed without a connection; events not written: 1')
    assert.equal(await spoke.closed, error)
  })

  testCodes('close ends an attempt', async (t) => {
    const { hub, peer, spoke } = await pair(t)
    peer.close(1)
    const again = await hub.accept() // and no acknowledgement
    const closed = spoke.close()
    await closed
    assert.match(await again.connection.closed(), /closed/)
  })

  testCodes('close ends an attempt that nobody answers, and does not wait for iroh to forget it', async (t) => {
    const { hub, peer, spoke } = await pair(t)
    peer.close(1)
    const incoming = await hub.endpoint.acceptNext() // and no answer
    const { close } = Endpoint.prototype
    let released
    let isReleased = false
    Endpoint.prototype.close = function () {
      released = close.call(this).then(() => (isReleased = true))
      return released
    }
    try {
      await spoke.close()
    } finally {
      Endpoint.prototype.close = close
    }
    assert.equal(isReleased, false)
    await released
    assert.ok(incoming)
  })

  testCodes('close from within a listener', async (t) => {
    const { peer, spoke } = await pair(t)
    const lost = once(spoke, '__disconnect')
    spoke.addEventListener('__disconnect', () => spoke.close())
    peer.close(1)
    await lost
    assert.equal(await spoke.closed, null)
  })

  test('a hub that does not answer', async (t) => {
    const hub = await fakeHub(t)
    const failed = rejection(Spoke.connect(hub.peer, { handshakeTimeout: 300 }))
    hub.accept().catch(ignore) // where it is slow, the spoke is gone by then
    const error = await failed
    assert.deepEqual([error.name, error.code], ['Timeout', 6])
  })

  test('nobody there', async (t) => {
    const peer = (await fakeHub(t)).peer.replace(/\d+$/, '9')
    assert.match(String(await rejection(Spoke.connect(peer, { handshakeTimeout: 300 }))), /Timeout|lost/)
    assert.equal((await rejection(Spoke.connect('nowhere'))).name, 'TypeError')
  })

  test('an endpoint of the application stays open', async (t) => {
    const endpoint = await bind(t)
    const hub = await fakeHub(t)
    for (let n = 0; n < 2; n++) {
      const [peer, spoke] = await Promise.all([hub.admit(), connect(t, hub.peer, { endpoint })])
      assert.equal(spoke.node, endpoint.id().toString())
      const closed = spoke.close()
      assert.equal(await peer.next(), null)
      await peer.finish()
      await closed
      assert.equal(endpoint.isClosed(), false)
    }
  })
})

describe('what a hub must not send', { timeout: 60_000 }, () => {
  const cases = {
    'a frame of 0 bytes': Buffer.from([0, 0, 0, 0]),
    'a frame over the limit': Buffer.from([0, 16, 0, 1]),
    'not JSON': Buffer.from([0, 0, 0, 1, 0x7b]),
    'not UTF-8': Buffer.from([0, 0, 0, 1, 0xff]),
    'no type': Buffer.from([0, 0, 0, 2, 0x7b, 0x7d]),
    'half a frame': Buffer.from([0, 0, 0, 2, 0x7b]),
  }
  for (const [name, bytes] of Object.entries(cases)) {
    test(`${name} ends the spoke with code 2`, async (t) => {
      const { peer, spoke } = await pair(t)
      await peer.write(bytes)
      if (name === 'half a frame') await peer.stream.send.finish()
      const error = await spoke.closed
      assert.deepEqual([error.name, error.code], ['ProtocolError', 2])
      assert.match(await peer.connection.closed(), /\(code 2\)$/)
    })
  }

  test('what comes before it is given out', async (t) => {
    const { peer, spoke } = await pair(t)
    const loop = spoke.events('a')
    await peer.ack('__subscribe', 'a')
    await spoke.ready()
    await peer.send({ type: 'a', payload: 1 })
    await peer.write(Buffer.from([0, 0, 0, 0]))
    assert.equal((await loop.next()).value.payload, 1)
    assert.equal((await rejection(loop.next())).code, 2)
  })

  test('control events of a later version are ignored, and members too', async (t) => {
    const { peer, spoke } = await pair(t)
    const loop = spoke.events('a')
    const id = await peer.request('__subscribe', 'a')
    await peer.send(
      { type: '__later', id, payload: 1 },
      { type: '__subscribe', id: '9', payload: { topics: ['a'] } },
      { type: '__ack', id: 'of nothing' },
      { type: '__ack', id, payload: {}, later: 1 },
      { type: 'a', later: 1 },
    )
    assert.deepEqual((await loop.next()).value, { type: 'a', id: '', payload: undefined })
  })
})
