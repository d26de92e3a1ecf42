import { chromium } from "playwright-core";
import { callInPage } from "./page.mjs";
import { serve } from "./stdio.mjs";
import { trust } from "./trust.mjs";

await serve(async (config) => {
  trust(`${process.env.HOME}/.pki/nssdb`);
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
    ],
  });
  return callInPage(await browser.newPage(), config);
});
