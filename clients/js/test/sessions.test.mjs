// The spoke plays every script of docs/vectors/sessions.json and docs/vectors/clients.json, which say how they are
// written. The test is the hub, and the application at the spoke.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe } from 'node:test'
import { Spoke } from '../spoke.mjs'
import { fakeHub } from './fakehub.mjs'
import { cleanup, noticeResets, root, testCodes } from './hub.mjs'

const scripts = ['sessions', 'clients'].flatMap((name) => JSON.parse(readFileSync(`${root}/docs/vectors/${name}.json`, 'utf8')).spoke)
const besides = ['silent', 'topics', 'as', 'or_closed', 'sub'] // what belongs to a verb
const limit = 60_000

/** What comes in its own time, in order. */
class Inbox {
  #all = []
  #wake = () => {}

  put(item) {
    this.#all.push(item)
    this.#wake()
  }

  async take() {
    while (this.#all.length === 0) await new Promise((wake) => (this.#wake = wake))
    return this.#all.shift()
  }
}

/** The hub's end of a connection. It answers what scripts leave to the player. */
class Link {
  got = new Inbox() // null: the end of the stream
  held = new Inbox()
  #writing = Promise.resolve()

  constructor(peer, silent) {
    this.peer = peer
    this.silent = silent
    this.closed = peer.connection.closed().catch((error) => error.message)
    this.#read().catch(() => {}) // closed: the script tells how
  }

  async #read() {
    for (;;) {
      const frame = await this.peer.next()
      if (frame === null) return this.got.put(null)
      const isEmpty = frame.type === '__subscribe' && topicsOf(frame).length === 0
      if (!isEmpty && frame.type !== '__unsubscribe') this.got.put(frame)
      else if (isEmpty && this.silent) this.held.put(frame.id)
      else if (frame.id) await this.ack(frame.id)
    }
  }

  ack(id) {
    return this.send(framed(JSON.stringify({ type: '__ack', id })))
  }

  send(bytes) {
    return (this.#writing = this.#writing.then(() => this.peer.write(bytes)))
  }
}

const topicsOf = ({ payload }) => ('topic' in payload ? [payload.topic] : payload.topics)

function framed(text) {
  const body = Buffer.from(text)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  return Buffer.concat([length, body])
}

/** One script. */
class Player {
  #ids = {}
  #may = []
  #told = new Inbox()
  #came = {} // by subscription
  #subs = {}
  #states = []
  #spoke = null
  #calls = {}

  static async play(t, { options = {}, steps }) {
    const player = new Player()
    player.hub = await fakeHub(t)
    const { max_frame: maxFrame, max_queue: maxQueue } = options
    player.#call('connected', Spoke.connect(player.hub.peer, { minBackoff: 10, maxBackoff: 500, handshakeTimeout: 30_000, ...(maxFrame && { maxFrame }), ...(maxQueue && { maxQueue }) }))
    player.#calls.connected.then((spoke) => noticeResets(t, spoke), () => {})
    cleanup(t, async () => {
      for (const link of player.links) link.peer.close(0)
      const spoke = await player.#calls.connected.catch(() => null)
      await spoke?.close().catch(() => {})
    })
    for (const [n, step] of steps.entries()) {
      const verbs = Object.keys(step).filter((name) => !besides.includes(name))
      assert.equal(verbs.length, 1)
      const [verb] = verbs
      try {
        assert.equal(typeof player[verb], 'function', 'no such verb')
        await player[verb](step[verb], step)
      } catch (cause) {
        throw new Error(`step ${n + 1}, ${JSON.stringify(step)}: ${cause}`, { cause })
      }
    }
  }

  /** Begins what a later step waits for. */
  #call(name, promise) {
    promise.catch(() => {})
    this.#calls[name] = promise
  }

  /** A frame's text, once for each id that it stands for. */
  #texts(frame) {
    const text = typeof frame === 'string' ? frame : JSON.stringify(frame)
    const named = text.match(/<id:(\w+)>/)
    const texts = named ? this.#ids[named[1]].map((id) => text.replace(named[0], id)) : [text]
    return texts.map((text) => text.replace(/<([^<>]+)\*([0-9]+)>/g, (_, part, n) => part.repeat(Number(n))))
  }

  #envelope(frame) {
    return { id: '', payload: undefined, ...JSON.parse(this.#texts(frame)[0]) }
  }

  #isLike(got, want) {
    try {
      assert.deepEqual({ ...got }, this.#envelope(want))
      return true
    } catch {
      return false
    }
  }

  // --- the hub

  links = []

  get link() {
    return this.links.at(-1)
  }

  async accept(_, { silent = false }) {
    this.links.push(new Link(await this.hub.accept(), silent))
  }

  async greet() {
    await this.link.ack(await this.link.held.take())
  }

  async hold() {
    await this.link.held.take()
  }

  async request(type, { topics, as }) {
    const rest = [...topics]
    this.#ids[as] = []
    while (rest.length > 0) {
      const got = await this.link.got.take()
      assert.equal(got?.type, type)
      assert.ok(got.id)
      for (const topic of topicsOf(got)) {
        assert.ok(rest.includes(topic), topic)
        rest.splice(rest.indexOf(topic), 1)
      }
      this.#ids[as].push(got.id)
    }
  }

  async send(frame) {
    for (const text of this.#texts(frame)) await this.link.send(framed(text))
  }

  async hex(digits) {
    await this.link.send(Buffer.from(digits, 'hex'))
  }

  async publishes(event) {
    assert.deepEqual({ ...(await this.link.got.take()) }, this.#envelope(event))
  }

  async eof() {
    assert.equal(await this.link.got.take(), null)
  }

  async end(code) {
    await this.link.peer.finish(code)
  }

  async finish() {
    await this.link.peer.stream.send.finish()
  }

  async abort(code) {
    await this.link.peer.stream.send.reset(BigInt(code))
  }

  async close(code) {
    this.link.peer.close(code)
  }

  async closed(code) {
    assert.match(String(await this.link.closed), new RegExp(`\\b${code}\\b`))
  }

  // --- the application

  async connected() {
    this.#spoke = await this.#calls.connected
    this.#spoke.addEventListener('__state', ({ detail }) => this.#states.push(detail))
    this.#spoke.addEventListener('__disconnect', ({ detail }) => this.#told.put(detail.error))
    this.#spoke.addEventListener('__reconnect', () => this.#told.put('back'))
  }

  async subscribe(topics, { sub = '' }) {
    this.#call('subscribed', (async () => {
      this.#subs[sub] = await this.#spoke.subscribe(...topics)
      if (!sub.startsWith('unread')) this.read(sub)
    })())
  }

  #inbox(sub) {
    return (this.#came[sub] ??= new Inbox())
  }

  async read(sub) {
    const inbox = this.#inbox(sub)
    const collect = async () => {
      for await (const event of this.#subs[sub]) inbox.put(event)
      return true
    }
    collect().then((end) => inbox.put(end), (error) => inbox.put(error))
  }

  async unsubscribe(sub) {
    this.#subs[sub].close()
  }

  async sub_ends(why, { sub }) {
    const got = await this.#inbox(sub).take()
    assert.equal(got === true ? true : got.code, why || true) // 0 and true: it returns
  }

  async subscribed() {
    await this.#calls.subscribed
  }

  async refused(code) {
    await assert.rejects(this.#calls.subscribed, { name: 'RefusedError', code })
  }

  async publish(event) {
    await this.#spoke.publish(JSON.parse(this.#texts(event)[0]))
  }

  async flush() {
    this.#call('flushed', this.#spoke.flush())
  }

  async flushed(result) {
    if (result === true) await this.#calls.flushed
    else if (result === 'lost') await assert.rejects(this.#calls.flushed, (error) => 'reason' in error)
    else await assert.rejects(this.#calls.flushed, { name: 'RefusedError', code: result })
  }

  async may_deliver(event) {
    this.#may.push(event)
  }

  async delivers(event, { or_closed: code, sub = '' }) {
    for (;;) {
      const ended = code === undefined ? new Promise(() => {}) : this.link.closed.then(() => null)
      const got = await Promise.race([this.#inbox(sub).take(), ended])
      if (got === null || (code !== undefined && got?.code === code)) {
        await this.closed(code)
        return this.ends(code)
      }
      if (this.#isLike(got, event)) return (this.#may = [])
      const may = this.#may.findIndex((other) => this.#isLike(got, other))
      assert.ok(may >= 0, `${JSON.stringify(got)}, want ${JSON.stringify(event)}`)
      this.#may.splice(may, 1)
    }
  }

  async lost(code) {
    const error = await this.#told.take()
    assert.equal(error.code, code)
    assert.ok(this.#states.some((state) => state.name === 'reconnecting' && state.attempt === 1 && state.error === error))
  }

  async back() {
    assert.equal(await this.#told.take(), 'back')
  }

  async ends(code) {
    if (this.#spoke === null) return assert.rejects(this.#calls.connected, { code })
    const error = await this.#spoke.closed
    assert.equal(error?.code, code)
    assert.deepEqual(this.#spoke.state, { name: 'closed', attempt: 0, error })
  }

  async leave() {
    this.#call('left', this.#spoke.close())
  }

  async left(well) {
    if (well === true) await this.#calls.left
    else await assert.rejects(this.#calls.left, (error) => 'reason' in error)
    assert.equal(this.#spoke.state.name, 'closed')
  }
}

describe('sessions', { timeout: limit }, () => {
  assert.ok(scripts.length >= 15)
  for (const script of scripts) testCodes(script.name, (t) => Player.play(t, script))
})
