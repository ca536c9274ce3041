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
export const version: string;
/** A spoke over iroh. */
export class Spoke extends BaseSpoke {
    /**
     * Connects to the hub at peer, a ticket or NODEID@HOST:PORT. Resolves once the hub has accepted the spoke.
     * Rejects with a CloseError if the hub rejects the spoke or does not answer in time, with a TypeError for an
     * invalid peer or option, and with the signal's reason if it is aborted.
     * @param {string} peer
     * @param {SpokeOptions} [options]
     */
    static connect(peer: string, options?: SpokeOptions): Promise<Spoke>;
}
export type Endpoint = import("./lib/iroh.mjs").IrohEndpoint;
export type EndpointAddr = import("./lib/iroh.mjs").IrohAddress;
export type Envelope = import("./lib/frames.mjs").Envelope;
export type Publication = import("./lib/frames.mjs").Publication;
export type Cancellable = import("./lib/options.mjs").Cancellable;
export type SpokeOptions = import("./lib/options.mjs").SpokeOptions;
export type Subscription = import("./lib/subscription.mjs").Subscription;
export type State = import("./lib/session.mjs").State;
export type Disconnect = import("./lib/spoke.mjs").Disconnect;
export type Reconnect = import("./lib/spoke.mjs").Reconnect;
export type ListenerOptions = import("./lib/spoke.mjs").ListenerOptions;
export type Detailed<T> = import("./lib/spoke.mjs").Detailed<T>;
export type SpokeEvent<T extends string> = import("./lib/spoke.mjs").SpokeEvent<T>;
export type Listener<T extends string> = import("./lib/spoke.mjs").Listener<T>;
import { BaseSpoke } from './lib/spoke.mjs';
export { CloseCode, CloseError, decode, encode, FrameError, FrameReader, isTopic, matches, patternOf, RefusedError, scan, topicOf } from "./lib/frames.mjs";
