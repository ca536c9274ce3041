// Runs the simulation's program for one seed after another, each in a new WebAssembly instance.
// All sources of randomness and time are derived from the seed. So select, maps and the scheduler
// of the Go runtime behave identically for the same seed.
//
//	node host.mjs PROGRAM TRACE(0|1) < one seed a line
//
// For each seed it prints one line of JSON. cpu in it is the CPU time of this process so far, in
// microseconds.

import { readFileSync, writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { WASI } from 'node:wasi'

const program = new WebAssembly.Module(readFileSync(process.argv[2]))
const trace = process.argv[3] === '1'

function run(seed) {
  const args = ['simulation', '-test.run=^TestSeed$', '-test.timeout=0', `-seed=${seed}`]
  const wasi = new WASI({ version: 'preview1', args, env: { GOTRACEBACK: 'all' } })
  const imports = { ...wasi.getImportObject().wasi_snapshot_preview1 }
  let instance
  let view
  const memory = () => { // the buffer is replaced when the memory grows
    const buffer = instance.exports.memory.buffer
    if (view?.buffer !== buffer) view = new DataView(buffer)
    return view
  }

  // splitmix64
  const mask = (1n << 64n) - 1n
  let state = BigInt(seed)
  const random = () => {
    state = (state + 0x9e3779b97f4a7c15n) & mask
    let z = state
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask
    return z ^ (z >> 31n)
  }
  imports.random_get = (at, size) => {
    for (let i = 0; i < size; i++) memory().setUint8(at + i, Number(random() & 255n))
    return 0
  }

  // The clock advances by a microsecond each time it is read.
  let now = 1_000_000_000_000_000_000n
  imports.clock_time_get = (clock, precision, at) => {
    now += 1000n
    memory().setBigUint64(at, now, true)
    return 0
  }

  // The runtime only waits for time. The clock advances to the end of the wait at once.
  imports.poll_oneoff = (subscriptions, events, count, written) => {
    const m = memory()
    let done = 0
    for (let i = 0; i < count; i++) {
      const s = subscriptions + i * 48
      if (m.getUint8(s + 8) !== 0) continue // not a clock
      const timeout = m.getBigUint64(s + 24, true)
      const absolute = (m.getUint16(s + 40, true) & 1) !== 0
      now = absolute ? (timeout > now ? timeout : now) : now + timeout
      const e = events + done++ * 32
      m.setBigUint64(e, m.getBigUint64(s, true), true)
      m.setUint16(e + 8, 0, true)
      m.setUint8(e + 10, 0)
    }
    m.setUint32(written, done, true)
    return 0
  }

  const output = []
  imports.fd_write = (fd, vectors, count, written) => {
    const m = memory()
    let total = 0
    for (let i = 0; i < count; i++) {
      const at = m.getUint32(vectors + i * 8, true)
      const size = m.getUint32(vectors + i * 8 + 4, true)
      const bytes = Buffer.from(Buffer.from(instance.exports.memory.buffer, at, size))
      output.push(bytes)
      if (!trace && output.length > 20000) output.splice(0, 10000)
      total += size
    }
    m.setUint32(written, total, true)
    return 0
  }

  instance = new WebAssembly.Instance(program, { wasi_snapshot_preview1: imports })
  let code
  try {
    code = wasi.start(instance)
  } catch (error) {
    code = 99
    output.push(Buffer.from(String(error)))
  }
  const { user, system } = process.cpuUsage()
  return { code, cpu: user + system, output: Buffer.concat(output).toString() }
}

for await (const line of createInterface({ input: process.stdin })) {
  writeSync(1, JSON.stringify(run(line.trim())) + '\n')
}
