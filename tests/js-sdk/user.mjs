// One user of OpenIM's JS SDK, told what to do by lines of JSON on standard input; what happens is printed, one JSON
// object a line:
//
//   {"do":"login","userID":…,"token":…,"platformID":…,"wsAddr":…}
//   {"do":"send","recvID":…,"text":…}
//   {"do":"history","conversationID":…}
//   {"do":"logout"}
//
// Each is followed by {"done":…} with what the SDK returns, or {"failed":…} with its error. Events are {"event":…}.
//
// The SDK is unmodified. The REST calls it makes are answered here: there is no user, friend or group service in these
// tests, and it only needs to hear that it has no friends and is in no groups.
//
// The directory where `npm ci` has put the SDK is the only argument.
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const require = createRequire(process.argv[2] + "/");
// The build for today's engines. That for old ones loses what it has in maps, and cannot catch up after a reconnect.
const sdkFile = join(dirname(require.resolve("@openim/client-sdk")), "index.modern.mjs");
const { CbEvents, LogLevel, getSDK } = await import(pathToFileURL(sdkFile));
const { Conversation, ConversationMsg, GetConversationsReq, GetConversationsResp, UserInfo } =
  require("@openim/protocol").PbCoder;

function say(what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}

/** A message with all its fields, empty. */
function blank(coder) {
  return coder.decode(new Uint8Array());
}

/** Standard output is ours; what the SDK logs goes where tests keep logs. */
for (const level of ["trace", "debug", "info", "log", "warn"]) {
  console[level] = console.error;
}

/** The data that each REST call is answered with, by path; the others get an empty object. */
const rest = {
  "/user/get_users_info": ({ userIDs }) => ({
    usersInfo: userIDs.map((userID) => ({ userID, nickname: userID, faceURL: "", ex: "" })),
  }),
  "/conversation/get_not_notify_conversation_ids": () => ({ conversationIDs: [] }),
  "/friend/get_full_friend_user_ids": () => ({ userIDs: [] }),
  "/group/get_full_join_group_ids": () => ({ groupIDs: [] }),
  "/friend/get_designated_friends": () => ({ friendsInfo: [] }),
  // These two speak protobuf, and answer in base64. No data means that there are no conversations yet.
  "/jssdk/get_active_conversations": () => null,
  "/jssdk/get_conversations": (bytes) => {
    const { ownerUserID, conversationIDs } = GetConversationsReq.decode(bytes);
    const conversations = conversationIDs.map((conversationID) => {
      // All are with one other user here: si_, and the two of them.
      const userID = conversationID.split("_").slice(1).find((user) => user !== ownerUserID);
      return {
        ...blank(ConversationMsg),
        conversation: { ...blank(Conversation), conversationID, ownerUserID, userID, conversationType: 1 },
        user: { ...blank(UserInfo), userID, nickname: userID },
      };
    });
    const answer = { ...blank(GetConversationsResp), conversations };
    return Buffer.from(GetConversationsResp.encode(answer).finish()).toString("base64");
  },
};

const api = createServer(async (request, response) => {
  const body = [];
  for await (const part of request) body.push(part);
  const bytes = Buffer.concat(body);
  const isJson = (request.headers["content-type"] ?? "").includes("json");
  const answer = rest[request.url];
  const data = answer ? answer(isJson ? JSON.parse(bytes.toString()) : bytes) : {};
  console.error(`REST ${request.url} ${isJson ? bytes : `${bytes.length} bytes`}`);
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ errCode: 0, errMsg: "", errDlt: "", data }));
});
await new Promise((listening) => api.listen(0, "127.0.0.1", listening));
const apiAddr = `http://127.0.0.1:${api.address().port}`;

const sdk = getSDK();
for (const event of [
  CbEvents.OnConnecting,
  CbEvents.OnConnectSuccess,
  CbEvents.OnConnectFailed,
  CbEvents.OnKickedOffline,
  CbEvents.OnUserTokenExpired,
  CbEvents.OnUserTokenInvalid,
  CbEvents.OnSyncServerFinish,
  CbEvents.OnSyncServerFailed,
]) {
  sdk.on(event, ({ data, errCode, errMsg }) => say({ event, data, errCode, errMsg }));
}
sdk.on(CbEvents.OnRecvNewMessages, ({ data }) => {
  for (const message of data) {
    const { sendID, recvID, seq, textElem, clientMsgID } = message;
    say({ event: "message", sendID, recvID, seq, text: textElem?.content, clientMsgID });
  }
});

const commands = {
  login: ({ userID, token, platformID, wsAddr }) =>
    sdk.login({ userID, token, platformID, wsAddr, apiAddr, logLevel: LogLevel.Debug }),
  send: async ({ recvID, text }) => {
    const { data: message } = await sdk.createTextMessage(text);
    return sdk.sendMessage({ recvID, groupID: "", message });
  },
  history: ({ conversationID }) =>
    sdk.getAdvancedHistoryMessageList({ conversationID, startClientMsgID: "", count: 100, lastMinSeq: 0 }),
  logout: () => sdk.logout(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    const { data } = await commands[command.do](command);
    say({ done: command.do, data });
  } catch (error) {
    const { errCode, errMsg, message } = error;
    say({ failed: command.do, errCode, errMsg: errMsg ?? message });
  }
}
// The end of input is the end; the SDK would go on reconnecting.
process.exit(0);
