// node endsworker.mjs STATE HOW PEER: ends a Worker with a spoke in a state, and lives on for a while.
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { Spoke } from '../spoke.mjs'

async function inWorker([state, how, peer]) {
  if (state === 'connecting') {
    Spoke.connect(peer).catch(() => {})
  } else {
    const spoke = await Spoke.connect(peer)
    if (state === 'subscribed') spoke.addEventListener('a', () => {})
    if (state === 'paused') spoke.events('a')
    if (state === 'looping') (async () => { for await (const _ of spoke.events('a')); })()
    await spoke.ready()
    if (state === 'closed') await spoke.close()
  }
  setTimeout(() => {
    if (how === 'exit') process.exit(0)
    if (how === 'throw') throw new Error('not caught')
    parentPort.postMessage('terminate')
  }, { closed: 0, connecting: 500 }[state] ?? 100)
  setInterval(() => {}, 1000)
}

if (isMainThread) {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: process.argv.slice(2) })
  worker.on('error', ({ message }) => message !== 'not caught' && console.error(message))
  worker.on('message', () => worker.terminate())
  await new Promise((resolve) => worker.on('exit', resolve))
  await new Promise((resolve) => setTimeout(resolve, 600)) // for what the library does then
} else {
  await inWorker(workerData)
}
