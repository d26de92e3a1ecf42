import puppeteer from "puppeteer-core";
import { callInPage } from "./page.mjs";
import { serve } from "./stdio.mjs";
import { trust } from "./trust.mjs";

await serve(async (config) => {
  const profile = `${process.env.HOME}/profile`;
  trust(profile);
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: "/usr/bin/firefox-esr",
    headless: true,
    userDataDir: profile,
    extraPrefsFirefox: {
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
      "media.autoplay.default": 0,
    },
  });
  return callInPage(await browser.newPage(), config);
});
