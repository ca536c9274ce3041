// What the tests share: an `irohub hub` in a process of its own, and spokes that end with the test.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Spoke } from '../spoke.mjs'

export const root = fileURLToPath(new URL('../../..', import.meta.url))
const binary = resolve(fileURLToPath(new URL('..', import.meta.url)), process.env.IROHUB_BIN ?? '../../bin/irohub')

/** Lines of a stream, to be waited for. */
export class Lines {
  #lines = []
  #wake = () => {}
  #ended = false
  #text

  constructor(stream, text = (line) => line) {
    this.#text = text
    createInterface({ input: stream })
      .on('line', (line) => (this.#lines.push(this.#text(line)), this.#wake()))
      .on('close', () => ((this.#ended = true), this.#wake()))
  }

  async next() {
    while (this.#lines.length === 0) {
      if (this.#ended) throw new Error('the output has ended')
      await new Promise((wake) => (this.#wake = wake))
    }
    return this.#lines.shift()
  }

  async take(count) {
    const lines = []
    while (lines.length < count) lines.push(await this.next())
    return lines
  }

  async until(pattern) {
    for (;;) {
      const line = await this.next()
      if (pattern.test(line)) return line
    }
  }
}

const cleanups = new WeakMap()

/** Runs something at the test's end, the last first: a spoke ends before its hub. */
export function cleanup(t, run) {
  if (!cleanups.has(t)) {
    cleanups.set(t, [])
    t.after(async () => {
      for (const run of cleanups.get(t).reverse()) await run()
    })
  }
  cleanups.get(t).push(run)
}

/** Starts a hub that ends with the test. */
export async function startHub(t, ...flags) {
  if (!flags.includes('-addr')) flags.push('-addr', '127.0.0.1:0')
  const child = spawn(binary, ['hub', '-stdin', ...flags], { cwd: root, stdio: 'pipe' })
  const log = new Lines(child.stderr)
  const events = new Lines(child.stdout, JSON.parse)
  const exited = once(child, 'exit')
  child.stdin.on('error', () => {}) // it may be gone
  cleanup(t, async () => {
    child.kill('SIGKILL')
    await exited
  })
  const { node, addrs, ticket } = await events.next().catch(async () => {
    throw new Error(`no hub: ${await log.next()}`)
  })
  return {
    node,
    addr: addrs[0],
    ticket,
    peer: `${node}@${addrs[0]}`,
    /** Events that spokes published. */
    events,
    log,
    /** Resolves when the pipe has room again. */
    publish: (event) => new Promise((done) => child.stdin.write(JSON.stringify(event) + '\n', done)),
    stop: async () => {
      child.kill('SIGTERM')
      const [code] = await exited
      return code
    },
  }
}

/** What the loss of a code calls, by test. */
const resets = new WeakMap()

/**
 * A test in which a hub closes connections with codes. Under load, iroh loses the packet that has the code now
 * and then, about once in 600 times. The spoke then hears "reset by peer" when it sends something, and must take
 * that for a lost connection. Such a run shows nothing about the code, so it is repeated.
 */
export function testCodes(name, run) {
  test(name, async (t) => {
    for (let left = 4; left > 0; left--) {
      const reset = new Promise((resolve) => resets.set(t, () => resolve('reset')))
      if ((await Promise.race([reset, run(t)])) !== 'reset') return
    }
    throw new Error('all connections were reset')
  })
}

/** Tells testCodes of a lost code. */
export function noticeResets(t, spoke) {
  for (const type of ['__state', '__disconnect']) {
    spoke.addEventListener(type, ({ detail }) => /reset by peer/.test(detail.error?.message) && resets.get(t)?.())
  }
}

/** Connects a spoke that ends with the test: with short pauses, and patience. */
export async function connect(t, peer, options) {
  const spoke = await Spoke.connect(peer, { minBackoff: 20, maxBackoff: 1000, handshakeTimeout: 30_000, writeTimeout: 30_000, ...options })
  cleanup(t, () => spoke.close().catch(() => {}))
  noticeResets(t, spoke)
  return spoke
}

/** The detail of the next event of a type. */
export async function detail(spoke, type) {
  const [event] = await once(spoke, type)
  return event.detail
}

/** What a promise rejects with. */
export async function rejection(promise) {
  try {
    await promise
  } catch (error) {
    return error
  }
  throw new Error('it did not reject')
}
