// What a hostile hub makes a spoke hold, in each of its states: measured in a process of its own,
// against a figure. held: heap and external memory, after collection; rss: all of the process.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { cleanup, Lines } from './hub.mjs'

const path = (name) => fileURLToPath(new URL(name, import.meta.url))

describe('a hostile hub makes a spoke hold little:', { timeout: 300_000 }, () => {
  for (const [what, words, most, ...where] of [
    ['silent', 'while it connects: events, and no answer', { held: 5, rss: 80 }],
    ['half', 'while it connects: all of a large frame but its end', { held: 10, rss: 80 }],
    ['small', 'where nobody reads: small events', { held: 5, rss: 90 }],
    ['large', 'where nobody reads: events that are large in memory', { held: 30, rss: 120 }],
    ['unanswered', 'where nobody reads, and an answer is awaited', { held: 5, rss: 90 }],
    ['cuts', 'where nobody reads, over many connections', { held: 5, rss: 110 }],
    ['closing', 'while it closes', { held: 5, rss: 90 }],
    ['streams', 'by streams that are not to be', { held: 5, rss: 80 }],
    ['streams', 'by streams that are not to be, in a Worker', { held: 5, rss: 95 }, 'worker'],
  ]) {
    test(words, async (t) => {
      const hub = spawn(process.execPath, [path('hostilehub.mjs'), what], { stdio: ['ignore', 'pipe', 'inherit'] })
      cleanup(t, () => hub.kill('SIGKILL'))
      const peer = await new Lines(hub.stdout).next()
      const spoke = spawn(process.execPath, ['--expose-gc', path('holds.mjs'), what, peer, ...where], { stdio: ['ignore', 'pipe', 'inherit'] })
      cleanup(t, () => spoke.kill('SIGKILL'))
      const lines = new Lines(spoke.stdout, JSON.parse)
      const figures = await lines.next()
      t.diagnostic(`${words}: ${figures.held} MiB held, ${figures.rss} MiB rss`)
      for (const name of ['held', 'rss']) assert.ok(figures[name] < most[name], `${name}: ${figures[name]} MiB, at most ${most[name]}`)
    })
  }
})
