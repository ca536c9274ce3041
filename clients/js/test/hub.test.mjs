// Spokes and `irohub hub`, in processes of their own, over iroh.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { EndpointAddr, EndpointId, SecretKey } from '@number0/iroh'
import { Spoke } from '../spoke.mjs'
import { bind, frame, Peer } from './fakehub.mjs'
import { cleanup, connect, detail, Lines, rejection, root, startHub } from './hub.mjs'

const limit = { timeout: 120_000 }

function temporary(t) {
  const dir = mkdtempSync(join(tmpdir(), 'irohub-js-'))
  cleanup(t, () => rmSync(dir, { recursive: true }))
  return dir
}

/** A spoke without a Spoke. */
async function raw(t, hub) {
  const endpoint = await bind(t)
  const addr = new EndpointAddr(EndpointId.fromString(hub.node), null, [hub.addr])
  const connection = await endpoint.connect(addr, [...Buffer.from('alkpubsub/1')])
  return new Peer(connection, await connection.openBi())
}

/** 10,000 sizes up to a limit, most of them small: about 14 MB. */
function mixedSizes(largest) {
  const sizes = []
  for (let n = 0; n < 10_000; n++) {
    if (n % 2000 === 1999) sizes.push(largest)
    else if (n % 250 === 249) sizes.push(60_000 + 11 * n)
    else if (n % 10 === 9) sizes.push(1000 + (n % 7) * 700)
    else sizes.push(60 + (n % 150))
  }
  return sizes
}

/** An event whose frame has a size. */
function sized(event, n, size) {
  const bare = JSON.stringify({ ...event, payload: { n, data: '' } }).length
  return { ...event, payload: { n, data: 'x'.repeat(Math.max(0, size - bare)) } }
}

describe('control events', limit, () => {
  test('subscribe, unsubscribe, and their answers', async (t) => {
    const hub = await startHub(t)
    const peer = await raw(t, hub)
    await peer.send({ type: '__subscribe', id: '1', payload: { topics: ['a', 'b:*'] } })
    assert.deepEqual(await peer.next(), { type: '__ack', id: '1', payload: undefined })
    await hub.publish({ type: 'a', payload: 1 })
    await hub.publish({ type: 'b', id: 'x', payload: 2 })
    assert.deepEqual(await peer.next(), { type: 'a', id: '', payload: 1 })
    assert.deepEqual(await peer.next(), { type: 'b', id: 'x', payload: 2 })
    await peer.send(
      { type: '__unsubscribe', payload: { topic: 'a' } },
      { type: '__later' },
      { type: '__unsubscribe', id: '2', payload: { topic: 'never' } },
    )
    assert.deepEqual(await peer.next(), { type: '__ack', id: '2', payload: undefined })
    await hub.publish({ type: 'a', payload: 3 })
    await hub.publish({ type: 'b', payload: 4 })
    assert.deepEqual(await peer.next(), { type: 'b', id: '', payload: 4 })
  })

  test('refusals', async (t) => {
    const hub = await startHub(t)
    const peer = await raw(t, hub)
    for (const [id, payload, code] of [
      ['1', null, 'invalid_payload'],
      ['', { topic: 'a', topics: [] }, 'invalid_payload'],
      ['2', { topics: ['a', '__a'] }, 'invalid_topic'],
      ['3', { topic: 'a\u0085' }, 'invalid_topic'],
      ['4', { topic: `direct:${hub.node}` }, 'forbidden'],
      ['5', { topics: ['a', 'direct:*'] }, 'forbidden'],
    ]) {
      await peer.send({ type: '__subscribe', id: id || undefined, payload })
      const answer = await peer.next()
      assert.deepEqual([answer.type, answer.id, answer.payload.code], ['__error', id, code])
    }
  })

  test('frames that are none end the connection with code 2', async (t) => {
    const hub = await startHub(t)
    const { invalid } = JSON.parse(readFileSync(join(root, 'docs/vectors/vectors.json'), 'utf8'))
    for (const v of invalid.filter(({ frame }) => frame.length < 4000)) {
      const peer = await raw(t, hub)
      await peer.send({ type: '__subscribe', id: '1', payload: { topics: [] } })
      assert.equal((await peer.next()).type, '__ack')
      await peer.write(Buffer.from(v.frame, 'hex'))
      if (v.reason === 'truncated') await peer.stream.send.finish()
      assert.match(await peer.connection.closed(), /\(code 2\)$/, v.name)
    }
  })
})

describe('a spoke and a hub', limit, () => {
  test('by ticket and by address, both ways', async (t) => {
    const hub = await startHub(t)
    for (const where of [hub.ticket, hub.peer]) {
      const spoke = await connect(t, where)
      assert.equal(spoke.hub, hub.node)
      const got = []
      spoke.addEventListener('file:1', ({ type, detail }) => got.push([type, detail]))
      spoke.addEventListener('file:*', ({ type, detail }) => got.push([type, detail]))
      await spoke.ready()
      const last = once(spoke, 'last')
      await spoke.ready()
      await hub.publish({ type: 'other' })
      await hub.publish({ type: 'file', id: '1', payload: [1, 'é😀'] })
      await hub.publish({ type: 'file' })
      await hub.publish({ type: 'last' })
      await last
      const first = { type: 'file', id: '1', payload: [1, 'é😀'] }
      assert.deepEqual(got, [
        ['file:1', first],
        ['file:*', first],
        ['file:*', { type: 'file', id: '', payload: undefined }],
      ])

      await spoke.publish({ type: 'up', id: 'x', payload: { a: null } })
      spoke.dispatchEvent(new CustomEvent('up', { detail: { type: 'up' } }))
      await spoke.flush()
      assert.deepEqual(await hub.events.next(), { type: 'up', id: 'x', payload: { a: null }, from: spoke.node })
      assert.deepEqual(await hub.events.next(), { type: 'up', from: spoke.node })
      await spoke.publish({ type: 'end' })
      await spoke.close()
      assert.deepEqual(await hub.events.next(), { type: 'end', from: spoke.node })
    }
    assert.equal(await hub.stop(), 0)
  })

  test('topics that are refused', async (t) => {
    const hub = await startHub(t)
    const spoke = await connect(t, hub.peer)
    const own = `direct:${spoke.node}`
    const others = `direct:${hub.node}`
    const told = detail(spoke, '__error')
    const loop = spoke.events(own, others)
    const error = await rejection(spoke.subscribed(others))
    assert.deepEqual([error.name, error.code, error.topic], ['RefusedError', 'forbidden', others])
    assert.equal(await told, error)
    assert.equal(await rejection(loop.next()), error)

    // The others are not harmed, and the connection neither.
    const fine = []
    for (let n = 0; n < 1023; n++) fine.push(`t${n}`)
    spoke.addEventListener(own, () => {})
    for (const topic of fine) spoke.addEventListener(topic, () => {})
    await spoke.ready()
    spoke.addEventListener('one more', () => {})
    assert.equal((await rejection(spoke.subscribed('one more'))).code, 'too_many_subscriptions')
    assert.equal((await rejection(spoke.ready())).topic, 'one more')
    await spoke.flush()
  })

  test('an event that is too large to pass on', async (t) => {
    const hub = await startHub(t, '-forward', '-max-frame', '3000')
    const spoke = await connect(t, hub.peer)
    const told = detail(spoke, '__error')
    await spoke.publish(sized({ type: 'a' }, 0, 3000))
    assert.equal((await rejection(spoke.flush())).code, 'invalid_payload')
    assert.equal((await told).topic, 'a')
    await spoke.publish(sized({ type: 'a' }, 0, 3000 - 74))
    await spoke.flush()
  })

  test('not on the list: code 3', async (t) => {
    const key = SecretKey.generate()
    const hub = await startHub(t, '-allow', key.public().toString())
    const error = await rejection(Spoke.connect(hub.peer))
    assert.deepEqual([error.name, error.code], ['NotAdmitted', 3])
    const secretKey = Buffer.from(key.toBytes())
    for (const secret of [secretKey, `${secretKey.toString('hex')}\n`]) {
      const spoke = await connect(t, hub.peer, { secretKey: secret })
      assert.equal(spoke.node, key.public().toString())
      await spoke.close()
    }
    await assert.rejects(Spoke.connect(hub.peer, { secretKey: 'short' }), TypeError)
  })

  test('not reading: that subscription ends, and no other', async (t) => {
    const hub = await startHub(t, '-max-queue', `${64 << 20}`)
    const spoke = await connect(t, hub.peer, { maxQueue: 100_000 })
    const loop = await spoke.subscribe('a')
    const last = await spoke.subscribe('last')
    for (let n = 0; n < 100; n++) await hub.publish(sized({ type: 'a' }, n, 30_000))
    await hub.publish({ type: 'last' })
    assert.equal((await last.next()).value.type, 'last')
    for (let n = 0; n < 3; n++) assert.equal((await loop.next()).value.payload.n, n)
    assert.equal((await rejection(loop.next())).name, 'TooSlow')
    await spoke.flush()
  })

  test('10,000 events up', async (t) => {
    const hub = await startHub(t, '-max-queue', `${128 << 20}`)
    const spoke = await connect(t, hub.peer)
    const sizes = mixedSizes((1 << 20) - 74)
    const heard = hub.events.take(sizes.length)
    for (const [n, size] of sizes.entries()) {
      // Now and then as many at once as it likes, without a wait.
      const published = spoke.publish(sized({ type: 'up', id: String(n % 10) }, n, size))
      if (n % 100 === 99) await published
    }
    await spoke.close()
    for (const [n, event] of (await heard).entries()) {
      assert.deepEqual(event, { ...sized({ type: 'up', id: String(n % 10) }, n, sizes[n]), from: spoke.node })
    }
    assert.equal(await hub.stop(), 0)
    await assert.rejects(hub.events.next(), /ended/)
  })

  test('10,000 events down', async (t) => {
    const hub = await startHub(t, '-max-queue', `${128 << 20}`)
    const spoke = await connect(t, hub.peer, { maxQueue: 64 << 20 })
    const sizes = mixedSizes(1 << 20)
    const loop = spoke.events('down:*', 'end')
    await spoke.ready()
    const sent = (async () => {
      for (const [n, size] of sizes.entries()) await hub.publish(sized({ type: 'down', id: String(n % 10) }, n, size))
      await hub.publish({ type: 'end' })
    })()
    let count = 0
    for await (const event of loop) {
      if (event.type === 'end') break
      assert.deepEqual(event, sized({ type: 'down', id: String(count % 10) }, count, sizes[count]))
      count++
    }
    assert.equal(count, sizes.length)
    await sent
  })
})

describe('several spokes', limit, () => {
  test('each gets its topics, in order, from all the others', async (t) => {
    const hub = await startHub(t, '-forward')
    const spokes = await Promise.all(Array.from({ length: 4 }, () => connect(t, hub.peer)))
    const topics = [['a:*'], ['a:1', 'b'], ['b', 'c:*'], ['a:*', 'b', 'c:*']]
    const loops = spokes.map((spoke, i) => spoke.events(...topics[i], 'end'))
    await Promise.all(spokes.map((spoke) => spoke.ready()))
    const kinds = [{ type: 'a', id: '1' }, { type: 'a', id: '2' }, { type: 'b', id: '' }, { type: 'c', id: 'x' }]
    const wanted = [[0, 1], [0, 2], [2, 3], [0, 1, 2, 3]]
    const rounds = 100
    await Promise.all(spokes.map(async (spoke) => {
      for (let n = 0; n < rounds; n++) for (const kind of kinds) await spoke.publish({ ...kind, payload: n })
      await spoke.publish({ type: 'end' })
      await spoke.flush()
    }))
    await Promise.all(loops.map(async (loop, i) => {
      const got = new Map(spokes.map(({ node }) => [node, []]))
      for (let ends = 0; ends < spokes.length - 1; ) {
        const { value: { type, id, payload, from } } = await loop.next()
        if (type === 'end') ends++
        else got.get(from).push({ type, id, payload })
      }
      const expected = []
      for (let n = 0; n < rounds; n++) for (const k of wanted[i]) expected.push({ ...kinds[k], payload: n })
      for (const [j, { node }] of spokes.entries()) assert.deepEqual(got.get(node), i === j ? [] : expected)
    }))
  })

  test('mailboxes, both ways', async (t) => {
    const hub = await startHub(t, '-forward')
    const [ada, bob, eve] = await Promise.all([1, 2, 3].map(() => connect(t, hub.peer)))
    const boxes = [ada, bob, eve].map((spoke) => spoke.events(`direct:${spoke.node}`))
    await Promise.all([ada, bob, eve].map((spoke) => spoke.ready()))
    await ada.publish({ type: 'direct', id: bob.node, payload: 'to Bob' })
    const atBob = (await boxes[1].next()).value
    assert.deepEqual(atBob, { type: 'direct', id: bob.node, payload: 'to Bob', from: ada.node })
    await bob.publish({ type: 'direct', id: atBob.from, payload: 'to Ada' })
    assert.deepEqual((await boxes[0].next()).value, { type: 'direct', id: ada.node, payload: 'to Ada', from: bob.node })
    await hub.publish({ type: 'direct', id: eve.node, payload: 'to Eve' })
    assert.deepEqual((await boxes[2].next()).value, { type: 'direct', id: eve.node, payload: 'to Eve' })
  })

  test('the hub ends and another takes its place', async (t) => {
    const key = join(temporary(t), 'hub.key')
    const first = await startHub(t, '-key', key)
    const spokes = await Promise.all(Array.from({ length: 3 }, () => connect(t, first.peer)))
    for (const spoke of spokes) spoke.addEventListener('a:*', () => {})
    await Promise.all(spokes.map((spoke) => spoke.ready()))
    const lost = spokes.map((spoke) => detail(spoke, '__disconnect'))
    const back = spokes.map((spoke) => detail(spoke, '__reconnect'))
    assert.equal(await first.stop(), 0)
    for (const { error, reconnecting } of await Promise.all(lost)) {
      assert.deepEqual([error.name, error.code, reconnecting], ['HubShutdown', 1, true])
    }
    await spokes[0].publish({ type: 'waits' })
    const loops = spokes.map((spoke) => spoke.events('a', 'b')) // b is new
    const second = await startHub(t, '-key', key, '-addr', first.addr)
    assert.equal(second.node, first.node)
    for (const { attempts } of await Promise.all(back)) assert.ok(attempts >= 1)
    await Promise.all(spokes.map((spoke) => spoke.ready()))
    await second.publish({ type: 'a', payload: 1 })
    await second.publish({ type: 'b', payload: 2 })
    for (const loop of loops) {
      assert.equal((await loop.next()).value.payload, 1)
      assert.equal((await loop.next()).value.payload, 2)
    }
    assert.equal((await second.events.next()).type, 'waits')
    await spokes[0].publish({ type: 'up' })
    assert.equal((await second.events.next()).from, spokes[0].node)
    await Promise.all(spokes.map((spoke) => spoke.close()))
    assert.equal(await second.stop(), 0)
  })
})

describe('the example', limit, () => {
  const example = fileURLToPath(new URL('../example.mjs', import.meta.url))

  function run(t, ...args) {
    const child = spawn(process.execPath, [example, ...args], { stdio: 'pipe' })
    cleanup(t, () => child.kill('SIGKILL'))
    const exited = once(child, 'close').then(([code]) => code)
    return { stdin: child.stdin, lines: new Lines(child.stdout, JSON.parse), errors: new Lines(child.stderr), exited, child }
  }

  test('subscribes and publishes, and ends by itself', async (t) => {
    const hub = await startHub(t, '-forward')
    const sub = run(t, '-n', '2', hub.ticket, 'a:*', 'b')
    const { ready, node } = await sub.lines.next()
    assert.ok(ready && /^[0-9a-f]{64}$/.test(node))
    const pub = run(t, '--pub', hub.peer)
    const from = (await pub.lines.next()).node
    pub.stdin.end('{"type":"a","id":"1","payload":{"x":[1]}}\n\n{"type":"c"}\n{"type":"b"}\n')
    assert.equal(await pub.exited, 0)
    assert.deepEqual(await sub.lines.take(2), [{ type: 'a', id: '1', payload: { x: [1] }, from }, { type: 'b', from }])
    assert.equal(await sub.exited, 0)
  })

  test('ends on a signal, and with an error where there is one', async (t) => {
    const hub = await startHub(t)
    const forever = run(t, hub.peer, 'a')
    await forever.lines.next()
    forever.child.kill('SIGTERM')
    assert.equal(await forever.exited, 0)
    assert.equal(await run(t).exited, 2)
    assert.equal(await run(t, '--pub', 'nowhere').exited, 2)
    const refused = run(t, hub.peer, `direct:${hub.node}`)
    assert.match(await refused.errors.next(), /forbidden/)
    assert.equal(await refused.exited, 1)
  })
})
