// A Worker that ends with its spoke open must not take the process along, of which another part uses
// iroh too: the library's promises outlive the thread. Each case is a process of its own.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { SecretKey } from '@number0/iroh'
import { cleanup, connect, startHub } from './hub.mjs'

const script = fileURLToPath(new URL('endsworker.mjs', import.meta.url))
const tries = 15

/** Runs a case some times, a few at once, and returns how the processes ended. */
async function run(count, ...args) {
  const ends = []
  const one = async () => {
    while (count-- > 0) {
      const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
      let errors = ''
      child.stderr.on('data', (data) => (errors += data))
      const [code, signal] = await once(child, 'close')
      ends.push(errors || (signal ?? code))
    }
  }
  await Promise.all([one(), one(), one()])
  return ends
}

const survived = Array(tries).fill(0)

describe('a Worker ends', { timeout: 600_000 }, () => {
  for (const [how, states] of Object.entries({
    terminate: ['open', 'looping', 'paused', 'closed'],
    exit: ['looping', 'closed'],
    throw: ['looping', 'closed'],
  })) {
    for (const state of states) {
      test(`${state}, by ${how}`, async (t) => {
        const hub = await startHub(t)
        assert.deepEqual(await run(tries, state, how, hub.peer), survived)
      })
    }
  }

  for (const how of ['exit', 'throw']) {
    test(`with events coming in, by ${how}`, async (t) => {
      const hub = await startHub(t, '-forward', '-max-queue', `${64 << 20}`)
      const source = await connect(t, hub.peer)
      let isOver = false
      const publishing = (async () => {
        while (!isOver) {
          for (let n = 0; n < 20; n++) await source.publish({ type: 'a', payload: 'x'.repeat(1000) })
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
      })()
      cleanup(t, () => ((isOver = true), publishing))
      assert.deepEqual(await run(tries, 'looping', how, hub.peer), survived)
    })

    test(`while it connects, by ${how}`, async () => {
      const nobody = SecretKey.generate().public() // at a port where nothing is
      assert.deepEqual(await run(tries, 'connecting', how, `${nobody}@127.0.0.1:9`), survived)
    })
  }
})
