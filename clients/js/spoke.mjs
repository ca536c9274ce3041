/**
 * A spoke of an irohub hub: publish and subscribe over iroh, as an event target. It speaks alkpubsub/1 and
 * needs Node 20.3 or later.
 */
import { irohOptions, IrohTransport } from './lib/iroh.mjs'
import { checkOptions } from './lib/options.mjs'
import { BaseSpoke } from './lib/spoke.mjs'

export { CloseCode, CloseError, decode, encode, FrameError, FrameReader, isTopic, matches, patternOf, RefusedError, scan, topicOf } from './lib/frames.mjs'

/** @typedef {import('./lib/iroh.mjs').IrohEndpoint} Endpoint */
/** @typedef {import('./lib/iroh.mjs').IrohAddress} EndpointAddr */
/** @typedef {import('./lib/frames.mjs').Envelope} Envelope */
/** @typedef {import('./lib/frames.mjs').Publication} Publication */
/** @typedef {import('./lib/options.mjs').Cancellable} Cancellable */
/** @typedef {import('./lib/options.mjs').SpokeOptions} SpokeOptions */
/** @typedef {import('./lib/subscription.mjs').Subscription} Subscription */
/** @typedef {import('./lib/session.mjs').State} State */
/** @typedef {import('./lib/spoke.mjs').Disconnect} Disconnect */
/** @typedef {import('./lib/spoke.mjs').Reconnect} Reconnect */
/** @typedef {import('./lib/spoke.mjs').ListenerOptions} ListenerOptions */
/** @template T @typedef {import('./lib/spoke.mjs').Detailed<T>} Detailed */
/** @template {string} T @typedef {import('./lib/spoke.mjs').SpokeEvent<T>} SpokeEvent */
/** @template {string} T @typedef {import('./lib/spoke.mjs').Listener<T>} Listener */

/** The version of this package. @type {string} */
export const version = '0.1.0'

/** A spoke over iroh. */
export class Spoke extends BaseSpoke {
  /**
   * Connects to the hub at peer, a ticket or NODEID@HOST:PORT. Resolves once the hub has accepted the spoke.
   * Rejects with a CloseError if the hub rejects the spoke or does not answer in time, with a TypeError for an
   * invalid peer or option, and with the signal's reason if it is aborted.
   * @param {string} peer
   * @param {SpokeOptions} [options]
   */
  static async connect(peer, options = {}) {
    checkOptions(options, irohOptions)
    const spoke = new Spoke(await IrohTransport.open(peer, options), options)
    await spoke.start(options.signal)
    return spoke
  }
}
