import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

val pom = rootDir.resolve("pom.xml").readText()
fun version(name: String) = Regex("<$name.version>(.+?)</").find(pom)!!.groupValues[1]

android {
    namespace = "dfkit.demo"
    compileSdk = 34
    defaultConfig {
        minSdk = 26
        targetSdk = 34
        versionCode = 1
        versionName = "0.1.0"
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
    // An APK for each kind of processor, as make android makes them.
    splits {
        abi {
            isEnable = true
            reset()
            include("arm64-v8a", "x86_64")
        }
    }
    // Models are read where they lie; natives are unpacked at installation.
    androidResources { noCompress += "tflite" }
    packaging {
        jniLibs.useLegacyPackaging = true
        resources.excludes += "META-INF/{native-image,maven,versions}/**"
    }
    buildTypes {
        release {
            isMinifyEnabled = true
            proguardFiles("rules.pro")
        }
    }
    sourceSets["main"].assets.srcDir(layout.buildDirectory.dir("assets"))
}

kotlin { compilerOptions { jvmTarget.set(JvmTarget.JVM_1_8) } }

dependencies {
    implementation(project(":core"))
    for (abi in listOf("android-arm64", "android-x86_64")) {
        runtimeOnly("org.bytedeco:javacpp:${version("javacpp")}:$abi")
        runtimeOnly("org.bytedeco:tensorflow-lite:${version("tensorflow-lite")}:$abi")
    }
}

// `make android`, or `make android BUNDLE=exports/NAME`, writes it.
val bundle by tasks.registering(Sync::class) {
    from(rootDir.resolve("build/phone"))
    into(layout.buildDirectory.dir("assets/bundle"))
}
tasks.named("preBuild") { dependsOn(bundle) }
