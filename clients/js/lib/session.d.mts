/** @typedef {import('./frames.mjs').Envelope} Envelope */
/** @typedef {import('./frames.mjs').RefusedError} RefusedError */
/** @typedef {import('./link.mjs').Connection} Connection */
/** @typedef {import('./link.mjs').Request} Request */
/**
 * A way to a hub.
 * @typedef {object} Transport
 * @property {string} node the NodeID of this spoke
 * @property {string} hub the NodeID of the hub
 * @property {(timeout: number) => Promise<Connection>} dial makes a connection; rejects with a CloseError
 * @property {() => void} giveUp makes dial() reject from here on
 * @property {() => Promise<void>} close frees what the transport holds
 */
/**
 * The state of a spoke. `reconnecting`: a connection was lost, and the hub has not yet acknowledged all topics
 * over a new one. `closed`: the final state.
 * @typedef {object} State
 * @property {'connected' | 'reconnecting' | 'closed'} name
 * @property {number} attempt when reconnecting: the number of the attempt, from 1; otherwise 0
 * @property {Error | null} error when reconnecting: why the connection was lost, or why the previous attempt
 *   failed; when closed: what ended the spoke, null after close()
 */
/**
 * @typedef {typeof import('./options.mjs').DEFAULTS} Settings
 */
/**
 * The callbacks of a Session.
 * @typedef {object} SessionOwner
 * @property {(type: '__state' | '__disconnect' | '__reconnect' | '__error', detail: unknown) => void} tell reports an
 *   event about the connection
 * @property {(envelope: Envelope, text: string) => void} event receives an event and its text
 * @property {(name: string, error: RefusedError) => void} refused learns that the hub refused a topic
 * @property {(error: Error | null) => void} ended learns that the spoke has ended; null: after close()
 */
/** Connects, reconnects whenever a link ends, and closes. */
export class Session {
    /**
     * @param {Transport} transport
     * @param {Settings} settings
     * @param {SessionOwner} owner
     */
    constructor(transport: Transport, settings: Settings, owner: SessionOwner);
    topics: Topics;
    outbox: Outbox;
    /** Resolves at the end: with null after close(), otherwise with the error that ended the spoke or that close() rejects with. */
    closed: Promise<Error | null>;
    /** The link that is up. @type {Link | null} */
    link: Link | null;
    /** Why there is no link. @type {Error | null} */
    lost: Error | null;
    /** @type {State} */
    state: State;
    isOver: boolean;
    /** Makes the first link. @param {AbortSignal} [signal] */
    start(signal?: AbortSignal): Promise<void>;
    /** Throws if the spoke has ended, or is closing. */
    checkOpen(): void;
    /** Resolves with the link that is up, once there is one. @param {AbortSignal} [signal] */
    connected(signal?: AbortSignal): Promise<Link>;
    /** Ends the session well. Later calls return the same promise. */
    close(): Promise<void>;
    #private;
}
export type Envelope = import("./frames.mjs").Envelope;
export type RefusedError = import("./frames.mjs").RefusedError;
export type Connection = import("./link.mjs").Connection;
export type Request = import("./link.mjs").Request;
/**
 * A way to a hub.
 */
export type Transport = {
    /**
     * the NodeID of this spoke
     */
    node: string;
    /**
     * the NodeID of the hub
     */
    hub: string;
    /**
     * makes a connection; rejects with a CloseError
     */
    dial: (timeout: number) => Promise<Connection>;
    /**
     * makes dial() reject from here on
     */
    giveUp: () => void;
    /**
     * frees what the transport holds
     */
    close: () => Promise<void>;
};
/**
 * The state of a spoke. `reconnecting`: a connection was lost, and the hub has not yet acknowledged all topics
 * over a new one. `closed`: the final state.
 */
export type State = {
    name: "connected" | "reconnecting" | "closed";
    /**
     * when reconnecting: the number of the attempt, from 1; otherwise 0
     */
    attempt: number;
    /**
     * when reconnecting: why the connection was lost, or why the previous attempt
     * failed; when closed: what ended the spoke, null after close()
     */
    error: Error | null;
};
export type Settings = typeof import("./options.mjs").DEFAULTS;
/**
 * The callbacks of a Session.
 */
export type SessionOwner = {
    /**
     * reports an
     * event about the connection
     */
    tell: (type: "__state" | "__disconnect" | "__reconnect" | "__error", detail: unknown) => void;
    /**
     * receives an event and its text
     */
    event: (envelope: Envelope, text: string) => void;
    /**
     * learns that the hub refused a topic
     */
    refused: (name: string, error: RefusedError) => void;
    /**
     * learns that the spoke has ended; null: after close()
     */
    ended: (error: Error | null) => void;
};
import { Topics } from './topics.mjs';
import { Outbox } from './outbox.mjs';
import { Link } from './link.mjs';
