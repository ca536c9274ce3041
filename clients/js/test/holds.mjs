// node --expose-gc holds.mjs WHAT PEER: a spoke that a hostile hub fills; prints by how many MiB it grew.
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { fileURLToPath } from 'node:url'
import { Spoke } from '../spoke.mjs'

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function run(what, peer) {
  const options = { handshakeTimeout: 3000, writeTimeout: 3000, reconnect: what !== 'streams', minBackoff: 20, maxBackoff: 20 }
  if (what === 'silent' || what === 'half') {
    return Spoke.connect(peer, { ...options, signal: AbortSignal.timeout(4000) }).catch(() => {})
  }
  const spoke = await Spoke.connect(peer, options).catch(() => null)
  if (!spoke) return sleep(1000) // it has left the hub at once
  const loop = spoke.events('a') // that nobody reads
  await Promise.race([spoke.ready(), sleep(2000)]).catch(() => {})
  if (what === 'unanswered') spoke.flush().catch(() => {})
  if (what === 'closing') spoke.close().catch(() => {})
  // A hub in JavaScript takes its time to fill 200 streams.
  if (what === 'streams') await Promise.race([sleep(30_000), spoke.closed.then(() => sleep(1000))])
  else await sleep(4000)
  return loop
}

if (isMainThread) {
  const [what, peer, where] = process.argv.slice(2)
  gc()
  const measure = () => {
    gc()
    const { heapUsed, external, rss } = process.memoryUsage()
    return { held: (heapUsed + external) / (1 << 20), rss: rss / (1 << 20) }
  }
  const before = measure()
  const most = { held: 0, rss: 0 }
  const timer = setInterval(() => {
    const now = measure()
    for (const name of ['held', 'rss']) most[name] = Math.max(most[name], now[name] - before[name])
  }, 100)
  if (where === 'worker') {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { what, peer } })
    await new Promise((resolve) => worker.on('message', resolve))
  } else {
    await run(what, peer)
  }
  clearInterval(timer)
  console.log(JSON.stringify({ held: Math.round(most.held), rss: Math.round(most.rss) }))
  process.exit(0)
} else {
  await run(workerData.what, workerData.peer)
  parentPort.postMessage('done')
}
