// A hub that does what a test tells it: to see what a spoke sends, and to send what no hub would.
import { Endpoint, RelayMode } from '@number0/iroh'
import { decode, FrameReader } from '../spoke.mjs'
import { cleanup } from './hub.mjs'

const alpn = Array.from(Buffer.from('alkpubsub/1'))

export async function bind(t, ...alpns) {
  const builder = Endpoint.builder()
  builder.applyMinimal()
  builder.relayMode(RelayMode.disabled())
  builder.bindAddr('127.0.0.1:0')
  builder.alpns(alpns)
  const endpoint = await builder.bind()
  cleanup(t, () => endpoint.close())
  return endpoint
}

export async function fakeHub(t) {
  const endpoint = await bind(t, alpn)
  const addr = endpoint.boundSockets().find((socket) => socket.startsWith('127.0.0.1:'))
  return {
    endpoint,
    peer: `${endpoint.id()}@${addr}`,
    peerOf: (connection, stream) => new Peer(connection, stream),
    /** The next spoke. */
    async accept() {
      const incoming = await endpoint.acceptNext()
      const connection = await (await incoming.accept()).connect()
      return new Peer(connection, await connection.acceptBi())
    },
    /** The next spoke, once it is taken in; it has the topics. */
    async admit(...topics) {
      const peer = await this.accept()
      if (topics.length > 0) await peer.ack('__subscribe', ...topics)
      await peer.ack('__subscribe')
      return peer
    },
  }
}

/** The other side of a connection. */
export class Peer {
  #envelopes = []
  #frames = new FrameReader()

  constructor(connection, { send, recv }) {
    Object.assign(this, { connection, stream: { send, recv } })
  }

  /** What comes next; null: the end of the stream. */
  async next() {
    while (this.#envelopes.length === 0) {
      const chunk = await this.stream.recv.read(65536)
      if (chunk.length === 0) return null
      for (const body of this.#frames.push(Uint8Array.from(chunk))) this.#envelopes.push(decode(body))
    }
    return this.#envelopes.shift()
  }

  /** Sends envelopes in one go. */
  send(...envelopes) {
    return this.write(Buffer.concat(envelopes.map(frame)))
  }

  write(bytes) {
    return this.stream.send.writeAll([...bytes])
  }

  /** Awaits a request for topics, or none, and returns its id. */
  async request(type, ...topics) {
    const envelope = await this.next()
    if (envelope?.type !== type || JSON.stringify(envelope.payload) !== JSON.stringify({ topics })) {
      throw new Error(`not ${type} ${topics}: ${JSON.stringify(envelope)}`)
    }
    return envelope.id
  }

  async ack(type, ...topics) {
    const id = await this.request(type, ...topics)
    await this.send({ type: '__ack', id })
  }

  /** Ends as a hub ends when the spoke has. */
  async finish(code = 0, reason = '') {
    await this.stream.send.finish()
    await this.stream.send.stopped()
    this.close(code, reason)
  }

  close(code, reason = '') {
    this.connection.close(BigInt(code), [...Buffer.from(reason)])
  }
}

export function frame(envelope) {
  const body = Buffer.from(JSON.stringify(envelope))
  const bytes = Buffer.alloc(4 + body.length)
  bytes.writeUInt32BE(body.length)
  body.copy(bytes, 4)
  return bytes
}
