// What an application in TypeScript writes. package.test.mjs has tsc check it against the package; it is not run.
import { CloseCode, CloseError, RefusedError, Spoke, topicOf, version, type Envelope, type SpokeOptions, type State, type Subscription } from 'irohub'

const options: SpokeOptions = { secretKey: new Uint8Array(32), relays: 'n0', handshakeTimeout: 5000, signal: AbortSignal.timeout(5000) }
const spoke: Spoke = await Spoke.connect('ticket', options)
const target: EventTarget = spoke
const ids: string[] = [spoke.node, spoke.hub]

function show(envelope: Envelope): string {
  const from: string | undefined = envelope.from
  // @ts-expect-error a payload is unknown until it is looked at
  const text: string = envelope.payload
  return topicOf(envelope) + from + text
}

spoke.addEventListener('message.sent:*', ({ type, detail }) => type + show(detail), { once: true })
spoke.addEventListener('a', { handleEvent: (event) => show(event.detail) }, true)
const listener = (event: CustomEvent<Envelope>) => show(event.detail)
spoke.addEventListener('a', listener, { signal: AbortSignal.timeout(1000) })
spoke.removeEventListener('a', listener)
spoke.addEventListener('__disconnect', ({ detail }) => {
  const again: boolean = detail.reconnecting
  if (detail.error instanceof CloseError && detail.error.code === CloseCode.tooSlow) return detail.error.reason
  return again
})
spoke.addEventListener('__reconnect', ({ detail }) => detail.attempts + 1)
spoke.addEventListener('__error', ({ detail }) => detail.code + detail.topic)
// @ts-expect-error about the connection, there is no envelope
spoke.addEventListener('__reconnect', ({ detail }) => show(detail))

const published: boolean = spoke.dispatchEvent(new CustomEvent('a', { detail: { type: 'a', payload: [1] } }))
await spoke.publish({ type: 'message.sent', id: 'conv-123', payload: { text: 'hello' } })
// @ts-expect-error a type is required
await spoke.publish({ id: 'x' })
await spoke.flush().catch((error: unknown) => error instanceof RefusedError && error.code)
await spoke.subscribed('a', { signal: AbortSignal.timeout(1000) })
await spoke.ready({ signal: AbortSignal.timeout(1000) })
await spoke.flush({ signal: AbortSignal.timeout(1000) })
await spoke.publish({ type: 'a' }, { signal: AbortSignal.timeout(1000) })
const events: Subscription = await spoke.subscribe('a', 'b:*', { signal: AbortSignal.timeout(1000) })
const topics: readonly string[] = events.topics
for await (const event of events) show(event)
events.close()
for await (const event of spoke.events('a', { signal: AbortSignal.timeout(1000) })) show(event)
// @ts-expect-error options stand behind the topics
await spoke.subscribe({ signal: AbortSignal.timeout(1000) }, 'a')
// @ts-expect-error there is no such option
await spoke.subscribe('a', { timeout: 5 })
const state: State = spoke.state
const attempt: number = state.name === 'reconnecting' ? state.attempt : 0
spoke.addEventListener('__state', ({ detail }) => detail.name + String(detail.error?.message))
const words: string = version
for await (const event of spoke.events('a', 'b:*')) if (event.id === 'x') break
await spoke.close()
const end: Error | null = await spoke.closed
// @ts-expect-error a spoke is made by connect()
new Spoke()

export { target, ids, published, end, topics, attempt, words }
