// node hostilehub.mjs WHAT: a hub in a process of its own that sends what fills memory; prints its peer.
import { Endpoint, RelayMode } from '@number0/iroh'
import { frame, Peer } from './fakehub.mjs'

const what = process.argv[2]
const builder = Endpoint.builder()
builder.applyMinimal()
builder.relayMode(RelayMode.disabled())
builder.bindAddr('127.0.0.1:0')
builder.alpns([[...Buffer.from('alkpubsub/1')]])
const endpoint = await builder.bind()
console.log(`${endpoint.id()}@${endpoint.boundSockets().find((socket) => socket.startsWith('127.0.0.1:'))}`)

const bytes = (buffer) => Array.from(buffer)
const window = Array(1_250_000).fill(1)
const small = bytes(Buffer.concat(Array(1000).fill(frame({ type: 'a', payload: 1 }))))
const large = bytes(frame({ type: 'a', payload: JSON.parse(`[${'[],'.repeat(340_000)}[]]`) }))

/** Writes something again and again. */
async function flood(peer, array) {
  for (;;) await peer.stream.send.writeAll(array)
}

/** Fills every stream that iroh lets a hub open. */
async function open(connection) {
  const fill = async (stream) => (stream.send ?? stream).writeAll(window)
  for (let n = 0; n < 100; n++) {
    fill(await connection.openUni()).catch(() => {})
    fill(await connection.openBi()).catch(() => {})
  }
}

async function serve(incoming) {
  const connection = await (await incoming.accept()).connect()
  if (what === 'streams') open(connection).catch(() => {})
  const peer = new Peer(connection, await connection.acceptBi())
  if (what === 'silent') return flood(peer, small)
  if (what === 'half') return peer.stream.send.writeAll(large.slice(0, -1))
  let flooding
  let count = 0
  for (let e; (e = await peer.next()); ) {
    const isLast = e.payload.topics.length === 0 && count++ > 0
    if (!(what === 'unanswered' && isLast)) await peer.send({ type: '__ack', id: e.id })
    if (e.payload.topics.length === 0 || what === 'closing') continue
    if (what === 'cuts') {
      for (let n = 0; n < 100; n++) await Promise.race([peer.stream.send.writeAll(small), new Promise((late) => setTimeout(late, 50))])
      connection.close(4n, [])
      return
    }
    if (what !== 'streams') flooding ??= flood(peer, what === 'large' ? large : small).catch(() => {})
  }
  if (what === 'closing') await flood(peer, small)
}

for (let incoming; (incoming = await endpoint.acceptNext()); ) serve(incoming).catch(() => {})
