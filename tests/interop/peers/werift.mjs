import { RTCPeerConnection } from "werift";
import "./call.js";
import { serve } from "./stdio.mjs";

await serve((config) => startCall(config, RTCPeerConnection));
