/** @typedef {import('@number0/iroh').Endpoint} IrohEndpoint */
/** @typedef {import('@number0/iroh').EndpointAddr} IrohAddress */
/** @typedef {import('@number0/iroh').Connection} IrohConnection */
/** @typedef {import('./options.mjs').SpokeOptions} SpokeOptions */
/** The options that only this transport has. @type {import('./options.mjs').OptionKinds} */
export const irohOptions: import("./options.mjs").OptionKinds;
/** The endpoint of a spoke, and the address of its hub. */
export class IrohTransport {
    /**
     * Checks a peer and the options of an endpoint, and binds one unless the options have it.
     * @param {string} peer
     * @param {SpokeOptions} options
     */
    static open(peer: string, options: SpokeOptions): Promise<IrohTransport>;
    /**
     * @param {Endpoint} endpoint
     * @param {EndpointAddr} address
     * @param {SpokeOptions} options
     */
    constructor(endpoint: Endpoint, address: EndpointAddr, { endpoint: given, alpn, bindAddr }: SpokeOptions);
    /** The NodeID of this spoke. */
    node: string;
    /** The NodeID of the hub. */
    hub: string;
    /** Makes a connection with a stream. Rejects with a CloseError. @param {number} timeout ms */
    dial(timeout: number): Promise<Connection>;
    /** Gives up all attempts to connect. */
    giveUp(): void;
    /**
     * Closes the endpoint, unless it is the application's. After an attempt that was given up, iroh takes 3 s, in
     * which it still answers packets for it. Usually nobody has to wait for that. But the library must have settled
     * its promises before a Worker ends, and the application may bind an address of its own again.
     */
    close(): Promise<void>;
    #private;
}
export type IrohEndpoint = import("@number0/iroh").Endpoint;
export type IrohAddress = import("@number0/iroh").EndpointAddr;
export type IrohConnection = import("@number0/iroh").Connection;
export type SpokeOptions = import("./options.mjs").SpokeOptions;
/** A connection to a hub, with one stream. */
declare class Connection {
    /**
     * @param {IrohConnection} connection
     * @param {import('@number0/iroh').BiStream} stream
     */
    constructor(connection: IrohConnection, stream: import("@number0/iroh").BiStream);
    /**
     * Calls abort if the hub opens streams, which it must not. iroh would buffer what it sends on them: iroh
     * allows 200 streams with 1.25 MB each. A Worker cannot wait for a stream; see #countUnread.
     * @param {(error: CloseError) => void} abort
     */
    guard(abort: (error: CloseError) => void): void;
    /** Resolves with the bytes that come next; none: the end of the stream. Rejects with a CloseError. */
    read(): Promise<Uint8Array<ArrayBuffer>>;
    /** Resolves when the library has taken the bytes. @param {Uint8Array} bytes */
    write(bytes: Uint8Array): Promise<void>;
    /** Ends the spoke's half of the stream. */
    finish(): Promise<void>;
    /** Resolves with how the hub has closed the connection, after the end of its stream. @param {number} timeout ms */
    closed(timeout: number): Promise<CloseError>;
    /** Closes the connection at once. No effect if it is closed already. @param {CloseError} error */
    close({ code, reason }: CloseError): void;
    /** Resolves when the library has settled all calls, or after 1 s. */
    settled(): Promise<void>;
    #private;
}
import { Endpoint } from '@number0/iroh';
import { EndpointAddr } from '@number0/iroh';
import { CloseError } from './frames.mjs';
export {};
