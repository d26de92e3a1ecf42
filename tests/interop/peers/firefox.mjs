import puppeteer from "puppeteer-core";
import { callInPage } from "./page.mjs";
import { serve } from "./stdio.mjs";

await serve(async (config) => {
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: "/usr/bin/firefox-esr",
    headless: true,
    extraPrefsFirefox: {
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
      "media.autoplay.default": 0,
    },
  });
  return callInPage(await browser.newPage(), config);
});
