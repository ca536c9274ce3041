// Hubs that are slow, silent, or mean harm, and what they cannot do to a spoke.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { Spoke } from '../spoke.mjs'
import { fakeHub } from './fakehub.mjs'
import { cleanup, connect, detail, rejection, startHub } from './hub.mjs'

const ignore = () => {}
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function pair(t, options) {
  const hub = await fakeHub(t)
  const [peer, spoke] = await Promise.all([hub.admit(), connect(t, hub.peer, options)])
  cleanup(t, () => peer.close(0)) // so that the spoke's end need not wait
  return { hub, peer, spoke }
}

/** Answers requests as a hub does that refuses some topics, until the stream ends; returns the requests. */
async function answer(peer, refuses = () => false, names = (topic) => topic) {
  const requests = []
  for (let e; (e = await peer.next().catch(() => null)); ) {
    if (!e.type.endsWith('subscribe')) continue
    requests.push(e.payload.topics)
    const refused = e.payload.topics.find(refuses)
    if (refused === undefined) await peer.send({ type: '__ack', id: e.id })
    else await peer.send({ type: '__error', id: e.id, payload: { code: 'forbidden', topic: names(refused), message: '' } })
  }
  return requests
}

describe('requests', { timeout: 120_000 }, () => {
  test('topics go together, in few requests at once', async (t) => {
    const { peer, spoke } = await pair(t)
    const topics = Array.from({ length: 500 }, (_, n) => `t${n}`)
    for (const topic of topics) spoke.addEventListener(topic, ignore)
    const open = []
    for (let n = 0; n < 4; n++) open.push(await peer.next())
    const early = peer.next()
    assert.equal(await Promise.race([early, sleep(200)]), undefined) // a fifth waits for an answer
    const got = []
    for (let e; (e = open.shift()); ) {
      got.push(...e.payload.topics)
      assert.ok(e.payload.topics.length <= 64)
      await peer.send({ type: '__ack', id: e.id })
      if (got.length + open.flatMap((e) => e.payload.topics).length < topics.length) open.push(await (open.length === 3 && got.length === 64 ? early : peer.next()))
    }
    assert.deepEqual(got, topics)
    await spoke.ready()
  })

  test('long topics go in requests of less than 16 KiB', async (t) => {
    const { peer, spoke } = await pair(t)
    for (let n = 0; n < 100; n++) spoke.addEventListener(`${n}`.padEnd(1000, 'é').slice(0, 500), ignore)
    for (let count = 0; count < 100; ) {
      const { id, payload } = await peer.next()
      assert.ok(Buffer.byteLength(JSON.stringify(payload)) < 16 << 10)
      count += payload.topics.length
      await peer.send({ type: '__ack', id })
    }
    await spoke.ready()
  })

  for (const [what, names] of Object.entries({ 'its name': (topic) => topic, 'no name': () => '' })) {
    test(`each topic gets its own answer, where one is refused with ${what}`, async (t) => {
      const { peer, spoke } = await pair(t)
      const requests = answer(peer, (topic) => topic.endsWith('7'), names)
      const topics = Array.from({ length: 100 }, (_, n) => `t${n}`)
      const told = []
      spoke.addEventListener('__error', (event) => told.push(event.detail))
      for (const topic of topics) spoke.addEventListener(topic, ignore)
      const answers = await Promise.allSettled(topics.map((topic) => spoke.subscribed(topic)))
      assert.deepEqual(answers.map(({ status }) => status === 'rejected'), topics.map((topic) => topic.endsWith('7')))
      assert.equal(told.length, 10)
      peer.close(0)
      assert.ok((await requests).length < 220)
    })
  }

  test('200 topics at a hub that queues 4 KiB', async (t) => {
    const hub = await startHub(t, '-max-queue', '4096')
    const spoke = await connect(t, hub.peer, { reconnect: false })
    for (let n = 0; n < 200; n++) spoke.addEventListener(`a-topic-of-some-length:${n}`, ignore)
    await spoke.ready()
    await Promise.all(Array.from({ length: 500 }, () => spoke.flush()))
  })

  test('a hub that takes longer than the limit for all topics, but answers', async (t) => {
    const timeout = 2000
    const { hub, peer, spoke } = await pair(t, { handshakeTimeout: timeout })
    const first = answer(peer)
    for (let n = 0; n < 1000; n++) spoke.addEventListener(`t${n}`, ignore)
    await spoke.ready()
    const back = once(spoke, '__reconnect')
    const since = performance.now()
    peer.close(1)
    await first
    const again = await hub.accept()
    cleanup(t, () => again.close(0))
    for (let e; (e = await again.next()); ) {
      await sleep(4 * e.payload.topics.length)
      await again.send({ type: '__ack', id: e.id })
      if (e.payload.topics.length === 0) break
    }
    assert.equal((await back)[0].detail.attempts, 1)
    assert.ok(performance.now() - since > timeout)
  })

  test('a hub that does not answer, nor send', async (t) => {
    const { spoke } = await pair(t)
    const error = await rejection(spoke.flush({ signal: AbortSignal.timeout(100) }))
    assert.equal(error.name, 'TimeoutError')
    assert.equal(spoke.state.name, 'connected')
  })

  test('an answer may be larger than an event', async (t) => {
    const { peer, spoke } = await pair(t, { maxFrame: 4096 })
    spoke.addEventListener('a', ignore)
    const id = await peer.request('__subscribe', 'a')
    const message = 'x'.repeat(3900)
    await peer.send({ type: '__error', id, payload: { code: 'forbidden', topic: 'a', message } })
    assert.equal((await rejection(spoke.subscribed('a'))).code, 'forbidden')
    await peer.send({ type: 'b', payload: message.repeat(2) })
    assert.equal((await spoke.closed).code, 2)
  })
})

describe('memory', { timeout: 120_000 }, () => {
  test('what many connections leave is bounded, where nobody reads', async (t) => {
    const maxQueue = 200_000
    const { hub, peer, spoke } = await pair(t, { maxQueue, maxBackoff: 20 })
    const loop = spoke.events('a')
    await peer.ack('__subscribe', 'a')
    await spoke.ready()
    const event = { type: 'a', payload: 'x'.repeat(10_000) }
    let current = peer
    for (let n = 0; n < 8; n++) {
      await current.send(...Array(4).fill(event))
      const lost = detail(spoke, '__disconnect')
      current.close(4)
      assert.equal((await lost).error.code, 4)
      current = await hub.accept()
      for (let e; (e = await current.next()); ) {
        if (e.type === '__subscribe') await current.send({ type: '__ack', id: e.id })
        if (e.payload.topics.length === 0) break
      }
    }
    cleanup(t, () => current.close(0))
    let kept = 0
    assert.equal((await rejection((async () => { for await (const { payload } of loop) kept += payload.length })())).name, 'TooSlow')
    assert.ok(kept > maxQueue / 2 && kept <= maxQueue, `${kept} bytes`)
  })

  for (const kind of ['openUni', 'openBi']) {
    test(`a hub that opens a stream (${kind}) is left`, async (t) => {
      const { peer, spoke } = await pair(t)
      const stream = await peer.connection[kind]()
      const { send } = kind === 'openBi' ? stream : { send: stream }
      send.writeAll(Array(1 << 20).fill(1)).catch(ignore)
      const error = await spoke.closed
      assert.deepEqual([error.name, error.code], ['ProtocolError', 2])
      assert.match(await peer.connection.closed(), /\(code 2\)$/)
    })
  }
})

describe('connecting', { timeout: 120_000 }, () => {
  test('attempts that timed out are few, and are closed when they are answered late', async (t) => {
    const { hub, peer, spoke } = await pair(t, { handshakeTimeout: 100, minBackoff: 1, maxBackoff: 10 })
    const lost = once(spoke, '__disconnect')
    const held = []
    let isOpen = false
    const accepting = (async () => {
      for (let incoming; (incoming = await hub.endpoint.acceptNext()); ) {
        if (isOpen) return
        held.push(incoming)
      }
    })()
    peer.close(1)
    await lost
    await sleep(2000) // some 20 times the limit
    assert.ok(held.length >= 1 && held.length <= 4, `${held.length} at once`)
    isOpen = true
    await spoke.close()
    for (const incoming of held) {
      const end = incoming.accept().then((a) => a.connect()).then((c) => c.closed(), () => 'never there')
      assert.ok(await end)
    }
    accepting.catch(ignore)
  })

  test('a late one is closed at once, and another is made', async (t) => {
    const { hub, peer, spoke } = await pair(t, { handshakeTimeout: 400, minBackoff: 1, maxBackoff: 10 })
    peer.close(1)
    const late = await hub.endpoint.acceptNext()
    const next = await hub.endpoint.acceptNext() // the first was given up
    const first = await (await late.accept()).connect()
    assert.match(await first.closed(), /closed/)
    const [back] = [once(spoke, '__reconnect')]
    let incoming = next
    for (;;) {
      try {
        const connection = await (await incoming.accept()).connect()
        const again = hub.peerOf(connection, await connection.acceptBi())
        await again.ack('__subscribe')
        await Promise.race([back, sleep(2000).then(() => Promise.reject(new Error('not back')))])
        again.close(0)
        break
      } catch {
        incoming = await hub.endpoint.acceptNext()
      }
    }
  })

  test('ends in time, by its timeout and by its signal', async (t) => {
    const hub = await fakeHub(t)
    hub.endpoint.acceptNext().then(async (incoming) => (await incoming.accept()).connect()).catch(ignore)
    const nobody = hub.peer.replace(/\d+$/, '9')
    for (const peer of [hub.peer, nobody]) {
      let since = performance.now()
      assert.equal((await rejection(Spoke.connect(peer, { handshakeTimeout: 400 }))).code, 6)
      assert.ok(performance.now() - since < 1500)
      since = performance.now()
      const reason = new Error('enough')
      const stop = new AbortController()
      setTimeout(() => stop.abort(reason), 200)
      assert.equal(await rejection(Spoke.connect(peer, { signal: stop.signal })), reason)
      assert.ok(performance.now() - since < 1500)
    }
    assert.equal((await rejection(Spoke.connect(nobody, { signal: AbortSignal.abort() }))).name, 'AbortError')
  })
})

describe('large events', { timeout: 120_000 }, () => {
  test('of 1 MB, two in a row, and again', async (t) => {
    const hub = await startHub(t)
    const spoke = await connect(t, hub.peer, { reconnect: false })
    const loop = spoke.events('a')
    await spoke.ready()
    for (let n = 0; n < 5; n++) {
      const event = { type: 'a', payload: [n, 'x'.repeat(1_000_000)] }
      hub.publish(event)
      hub.publish(event)
      for (let twice = 0; twice < 2; twice++) assert.equal((await loop.next()).value.payload[0], n)
    }
  })
})
