#!/usr/bin/env node
// Subscribe to a hub, or publish to it:
//
//   node example.mjs [-n COUNT] [--key FILE] PEER TOPIC…   prints each event as a line of JSON
//   node example.mjs --pub [--key FILE] PEER               publishes each line of standard input
//
// Once it is connected and subscribed to all topics, it prints {"ready":true,"node":NODEID}.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { Spoke } from './spoke.mjs'

const usage = `usage: node example.mjs [-n COUNT] [--key FILE] PEER TOPIC…
       node example.mjs --pub [--key FILE] PEER`

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      count: { type: 'string', short: 'n', default: '0' },
      pub: { type: 'boolean', default: false },
      key: { type: 'string' },
    },
  })
  const [peer, ...topics] = positionals
  const count = Number(values.count)
  if (!peer || !Number.isInteger(count) || count < 0 || values.pub !== (topics.length === 0)) {
    throw new TypeError(usage)
  }
  const secretKey = values.key && readFileSync(values.key, 'utf8')
  const spoke = await Spoke.connect(peer, secretKey ? { secretKey } : {})
  spoke.addEventListener('__disconnect', ({ detail }) => console.error(`disconnected: ${detail.error.message}`))
  spoke.addEventListener('__reconnect', () => console.error('reconnected'))
  spoke.addEventListener('__error', ({ detail }) => console.error(detail.message))
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => spoke.close())
  try {
    await (values.pub ? publish(spoke) : subscribe(spoke, topics, count))
  } finally {
    await spoke.close()
  }
}

async function subscribe(spoke, topics, count) {
  const events = spoke.events(...topics)
  await spoke.ready()
  await print({ ready: true, node: spoke.node })
  let printed = 0
  for await (const { type, id, payload, from } of events) {
    await print({ type, id: id || undefined, payload, from })
    if (++printed === count) return
  }
  if (count > 0) throw new Error(`the spoke ended after ${printed} of ${count} events`)
}

async function publish(spoke) {
  await print({ ready: true, node: spoke.node })
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim()) await spoke.publish(JSON.parse(line))
  }
  await spoke.flush() // throws if the hub refused an event
}

async function print(value) {
  if (!process.stdout.write(JSON.stringify(value) + '\n')) await once(process.stdout, 'drain')
}

main().catch((error) => {
  console.error(error instanceof TypeError ? error.message : String(error))
  process.exitCode = error instanceof TypeError ? 2 : 1
})
